"""A client of etcd: calls that fail over, leases, watches that resume, copies that stay true."""
