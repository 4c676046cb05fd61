package tenancy

import (
	"testing"

	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/replicatest"
	"github.com/damask-sdn/damask/internal/rpcserve"
)

func TestMain(m *testing.M) {
	replicatest.Main(m, daemon.Program[Config]{
		Name: "damask-tenancy", Load: Load, Log: func(c Config) daemon.Log { return c.Log }, Run: Run,
	}.Main)
}

// startProcess starts a replica in a process of its own, on an address of the
// machine that is its own, and answers where it listens.
func startProcess(t *testing.T, host int, tls identity.Files, nats string) (replica *replicatest.Replica, address string) {
	t.Helper()
	ip := replicatest.Loopback(host)
	address = ip + ":9442"
	return replicatest.Start(t, address, Config{
		Config: rpcserve.Config{Listen: address}, Metrics: ip + ":9542", TLS: tls,
		Log: daemon.Log{Level: "warn"}, NATS: natsd.Config{Servers: []string{nats}, Replicas: 1},
	}), address
}
