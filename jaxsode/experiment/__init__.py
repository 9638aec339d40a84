"""From what was asked to the numbers: a plan, features extracted once, one method on one split, a record."""
