"""A data set that needs no download: pictures of a flange and of a cloth, drawn here."""
