"""What goes in and out of ``/api/v1``, as pydantic models: a module a resource, as the views are.

The OpenAPI document is made of them.
"""
