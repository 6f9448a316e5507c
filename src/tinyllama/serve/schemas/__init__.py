"""Requests and responses of the API, and the OpenAPI description made of them."""
