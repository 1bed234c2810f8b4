// Command etcd is etcd's own server, built from its published module. `go install` cannot: the module has replace directives.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
