package egress

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
		Name: "damask-egress", Load: Load, Log: func(c Config) daemon.Log { return c.Log }, RunLive: Run,
	}.Main)
}

// startProcess starts a replica in a process of its own, on an address of the
// machine that is its own, and answers where it listens.
func startProcess(t *testing.T, host int, tls identity.Files, sys *system) (replica *replicatest.Replica, address string) {
	t.Helper()
	ip := replicatest.Loopback(host)
	address = ip + ":9444"
	cfg := Config{IPAM: Servers{Servers: []string{sys.ipam.address}}, Tenancy: Servers{Servers: []string{sys.tenancy.address}}}
	cfg.Config, cfg.Metrics, cfg.TLS = rpcserve.Config{Listen: address}, ip+":9544", tls
	cfg.Log, cfg.NATS = daemon.Log{Level: "warn"}, natsd.Config{Servers: []string{sys.store.URL()}, Replicas: 1}
	return replicatest.Start(t, address, cfg), address
}
