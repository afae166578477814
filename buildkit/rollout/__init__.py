"""Traffic over versions and replicas of a service: proxies, the split of users, decisions and scaling. Pure."""
