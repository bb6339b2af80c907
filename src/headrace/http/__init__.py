"""The REST API and the declared pages of a project, and who may read them."""
