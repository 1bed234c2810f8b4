"""Who is in the cluster: announcing oneself under a lease, and seeing the others."""
