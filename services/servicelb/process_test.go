package servicelb

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
		Name: "damask-servicelb", Load: Load, Log: func(c Config) daemon.Log { return c.Log }, Run: Run,
	}.Main)
}

// startProcess starts a replica in a process of its own, on an address of the
// machine that is its own, and answers where it listens.
func startProcess(t *testing.T, host int, tls identity.Files, nats string, cfg Config) (replica *replicatest.Replica, address string) {
	t.Helper()
	ip := replicatest.Loopback(host)
	address = ip + ":9443"
	cfg.Config, cfg.Metrics, cfg.TLS = rpcserve.Config{Listen: address}, ip+":9543", tls
	cfg.Log, cfg.NATS = daemon.Log{Level: "warn"}, natsd.Config{Servers: []string{nats}, Replicas: 1}
	return replicatest.Start(t, address, cfg), address
}
