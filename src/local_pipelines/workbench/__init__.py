"""Whether the bench is ready: .env, cache folder, token, packages, device, and who looks on."""
