"""What several tests use: paths, servers, small models, made-up speech."""
