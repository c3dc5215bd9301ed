"""What the API's functions share: requests, tenants and scopes, bodies, problem details, routes."""
