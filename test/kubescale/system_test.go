package kubescale

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/kubetest"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/proctest"
)

// limit bounds every wait: it matters only when something hangs.
const limit = 5 * time.Minute

// names are the services, in the order in which they are started: each needs those before.
var names = []string{"ipam", "tenancy", "servicelb", "egress"}

// system is a cluster with the control services, each of which is a process that reaches the
// API server through a gate of its own.
type system struct {
	apiserver
	ca      *identitytest.CA
	store   *natsd.Server
	service map[string]*service
	address map[string]string
	buses   map[string]*nats.Conn
}

type service struct {
	*proctest.Process
	gate *kubetest.Gate
}

func newSystem(b *testing.B) *system {
	b.Helper()
	s := &system{apiserver: apiserver{b, kubetest.Start(b)}, ca: identitytest.New(b), service: map[string]*service{}, address: map[string]string{}, buses: map[string]*nats.Conn{}}
	s.cluster.InstallCRDs(b, "../../deploy/crds")
	var err error
	s.store, err = natsd.Start(natsd.ServerConfig{StoreDir: b.TempDir(), Listen: "127.0.0.1:0", Sync: natsd.SyncPeriodic},
		s.ca.Source(b, identitytest.Service(b, "nats")), hclog.NewNullLogger())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.store.Stop)
	for _, name := range names {
		s.address[name] = free(b)
	}
	for _, name := range names {
		s.service[name] = s.start(name)
	}
	return s
}

// own is what only one service's configuration has.
func (s *system) own(name string) string {
	switch name {
	case "servicelb":
		return fmt.Sprintf("selectors: false\nipam: {servers: [%q]}\ntenancy: {servers: [%q]}\n", s.address["ipam"], s.address["tenancy"])
	case "egress":
		return fmt.Sprintf("ipam: {servers: [%q]}\ntenancy: {servers: [%q]}\n", s.address["ipam"], s.address["tenancy"])
	}
	return ""
}

func (s *system) start(name string) *service {
	s.Helper()
	gate, files := s.cluster.NewGate(s.B), s.ca.Files(s.B, identitytest.Service(s.B, name))
	config := fmt.Sprintf(`
listen: %q
metrics: 127.0.0.1:0
tls: {certificate: %q, key: %q, ca: %q, trustDomain: %q}
log: {level: warn}
nats: {servers: [%q], replicas: 1}
kubernetes: {enabled: true, kubeconfig: %q, qps: 10000, burst: 10000}
%s`, s.address[name], files.Certificate, files.Key, files.CA, files.TrustDomain, s.store.URL(),
		gate.Kubeconfig(s.B, s.cluster.As(s.B, "damask-"+name, "system:masters")), s.own(name))
	path := filepath.Join(s.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		s.Fatal(err)
	}
	cmd := exec.Command("../../bin/damask-"+name, "-config", path)
	log := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = log, log
	process := proctest.Start(s.B, cmd)
	s.Cleanup(func() {
		process.Stop()
		if s.Failed() {
			s.Logf("%s logged:\n%s", name, log)
		}
	})
	return &service{Process: process, gate: gate}
}

// free answers an address at which nobody listens.
func free(b *testing.B) string {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// bus connects as a service, to hear what is stored.
func (s *system) bus(name string) *nats.Conn {
	s.Helper()
	if nc := s.buses[name]; nc != nil {
		return nc
	}
	nc, err := natsd.Connect([]string{s.store.URL()}, s.ca.Source(s.B, identitytest.Service(s.B, name)), hclog.NewNullLogger())
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(nc.Close)
	s.buses[name] = nc
	return nc
}

// memory is what a process has of the machine's, in MB.
func memory(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "VmRSS:" {
			kb, err := strconv.Atoi(fields[1])
			if err != nil {
				b.Fatal(err)
			}
			return float64(kb) / 1024
		}
	}
	b.Fatalf("process %d says nothing of its memory", pid)
	return 0
}

// until waits for a condition.
func (s *system) until(what string, holds func() bool) {
	s.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("not so: %s", what)
		}
		for name, p := range s.service {
			select {
			case <-p.Done():
				s.Fatalf("%s ended: %v", name, p.Err())
			default:
			}
		}
	}
}
