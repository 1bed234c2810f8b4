"""Published messages of etcd, generated from protos/bettong_kit/etcd/pb."""
