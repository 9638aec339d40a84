"""A detector as a service with a page: `pip install 'jaxsode[serve]'`, then `jaxsode serve DETECTOR`."""
