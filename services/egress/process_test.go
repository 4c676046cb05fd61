package egress

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/proctest"
	"github.com/damask-sdn/damask/internal/rpcserve"
)

// asDaemon is the environment variable that makes the test binary the daemon.
const asDaemon = "DAMASK_EGRESS_TEST_DAEMON"

func TestMain(m *testing.M) {
	if os.Getenv(asDaemon) != "" {
		os.Exit(daemon.Program[Config]{
			Name: "damask-egress", Load: Load, Log: func(c Config) daemon.Log { return c.Log }, Run: Run,
		}.Main())
	}
	os.Exit(m.Run())
}

// process is a replica in a process of its own, which can be killed.
type process struct {
	t       *testing.T
	address string
	config  string
	log     string
	running *proctest.Process
}

// newProcess writes a replica's configuration. ip is one of the machine's
// loopback addresses, and the replica's own.
func newProcess(t *testing.T, ip string, tls identity.Files, sys *system) *process {
	t.Helper()
	dir := t.TempDir()
	p := &process{t: t, address: ip + ":9444", config: filepath.Join(dir, "egress.yaml"), log: filepath.Join(dir, "log")}
	cfg := Config{IPAM: Servers{Servers: []string{sys.ipam.address}}, Tenancy: Servers{Servers: []string{sys.tenancy.address}}}
	cfg.Config, cfg.Metrics, cfg.TLS = rpcserve.Config{Listen: p.address}, ip+":9544", tls
	cfg.Log, cfg.NATS = daemon.Log{Level: "warn"}, natsd.Config{Servers: []string{sys.store.URL()}, Replicas: 1}
	text, err := yaml.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *process) start() {
	p.t.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	command := exec.Command(os.Args[0], "-config", p.config)
	command.Env = append(os.Environ(), asDaemon+"=1")
	command.Stdout, command.Stderr = log, log
	p.running = proctest.Start(p.t, command)
}

// complaints is what the replica logged, for a test that failed.
func (p *process) complaints() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s:\n%s", p.address, text)
}

// loopback answers addresses of this machine that are the test's own: each
// process has a network 127.x.y.0/24 of its number.
func loopback(host int) string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 1+pid>>8%250, pid&0xff, host)
}
