"""GPUs of a host, and the CDI specifications that hand them to containers; pure."""
