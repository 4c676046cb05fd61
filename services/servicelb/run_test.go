package servicelb

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bus"
	"github.com/damask-sdn/damask/internal/configfile/configfiletest"
	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcerr"
	"github.com/damask-sdn/damask/internal/rpcserve"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

const referenceFile = "../../deploy/config/servicelb.yaml"

func TestTheReferenceFileDocumentsEveryField(t *testing.T) {
	configfiletest.Documented(t, referenceFile, &Config{})
	if _, err := Load(referenceFile); err != nil {
		t.Error(err)
	}
}

func TestAWrongFileSaysAllThatIsWrong(t *testing.T) {
	text := `listen: nowhere
metrics: 0.0.0.0:9543
log: {level: loud}
nats: {replicas: 2}
clusterIPs:
  - 172.30.0.0/16
  - 172.30.1.0/24
  - fd00::/64
nodePorts: all
loadBalancerIPs:
  - 192.0.2.9-192.0.2.1
selectors: true
ipam: {servers: [x]}
`
	path := filepath.Join(t.TempDir(), "servicelb.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path)
	if err == nil {
		t.Fatal("it was accepted")
	}
	for _, part := range []string{
		":1: listen", "tls.key", "tls.ca", ":3: log.level", ":4: nats.replicas", "storeDir", ":7: clusterIPs[1]", ":8: clusterIPs[2]",
		":9: nodePorts", ":11: loadBalancerIPs[0]", ":13: ipam.servers[0]", "tenancy.servers: required",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is missing in:\n%v", part, err)
		}
	}
}

// config is a valid configuration.
func config(t *testing.T, ca *identitytest.CA) Config {
	t.Helper()
	cfg := small()
	cfg.Config, cfg.Metrics = rpcserve.Config{Listen: "127.0.0.1:0"}, "127.0.0.1:0"
	cfg.TLS = ca.Files(t, identitytest.Service(t, serviceName))
	cfg.NATS = natsd.Config{Embedded: natsd.Embedded{StoreDir: t.TempDir(), Listen: "127.0.0.1:0"}}
	return cfg
}

func TestRunStopsWhenItIsToldTo(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	cfg := config(t, identitytest.New(t))
	// Neighbours that are away are waited for.
	cfg.ClusterIPs, cfg.IPAM.Servers = nil, []string{"127.0.0.1:1"}
	cfg.Selectors, cfg.Tenancy.Servers = true, []string{"127.0.0.1:1"}
	if err := Run(ctx, cfg, hclog.NewNullLogger()); err != nil {
		t.Errorf("run: %v", err)
	}
}

func TestRunRefusesWhatAPersonMustPutRight(t *testing.T) {
	ca := identitytest.New(t)
	occupied, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer occupied.Close()
	cases := []struct {
		name  string
		spoil func(*Config)
		want  string
	}{
		{"the certificate of another service", func(c *Config) { c.TLS = ca.Files(t, identitytest.Service(t, "ipam")) }, "service/ipam, not of service/servicelb"},
		{"the certificate of a node", func(c *Config) { c.TLS = ca.Files(t, identity.Node("n1")) }, "node/n1, not of service/servicelb"},
		{"an occupied gRPC port", func(c *Config) { c.Listen = occupied.Addr().String() }, "another process uses this port"},
		{"an occupied metrics port", func(c *Config) { c.Metrics = occupied.Addr().String() }, occupied.Addr().String()},
		{"pools that overlap", func(c *Config) { c.LoadBalancerIPs = []string{"192.0.2.0/24", "192.0.2.7/32"} }, "overlaps"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := config(t, ca)
			c.spoil(&cfg)
			err := Run(soon(t), cfg, hclog.NewNullLogger())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("run: %v, want %q in it", err, c.want)
			}
		})
	}
}

// TestTheDaemonChecksItsFile runs the real program with -check.
func TestTheDaemonChecksItsFile(t *testing.T) {
	var out, problems strings.Builder
	program := daemon.Program[Config]{Name: "damask-servicelb", Load: Load, Log: func(c Config) daemon.Log { return c.Log }, Run: Run}
	if code := program.Execute(t.Context(), []string{"-check", "-config", referenceFile}, &out, &problems); code != 0 {
		t.Errorf("exit code %d: %s", code, problems.String())
	}
	if got := out.String() + problems.String(); got != referenceFile+": ok\n" {
		t.Errorf("it says %q", got)
	}
}

func TestWithoutTheStoreQuestionsAreAnsweredAndChangesRefused(t *testing.T) {
	sys := start(t, small())
	op, node := sys.operator(), sys.node("n1")
	stored := op.create(t, web("web"))
	sys.store.Stop()
	for who, c := range map[string]client{"operator": op, "node": node} {
		page, err := c.ListServices(soon(t), &servicelbv1.ListServicesRequest{})
		if err != nil || len(page.GetServices()) != 1 || !proto.Equal(page.GetServices()[0], stored) {
			t.Errorf("list as %s: %v, %v", who, page, err)
		}
	}
	if _, err := op.CreateService(soon(t), &servicelbv1.CreateServiceRequest{Service: web("db")}); rpcerr.Reason(err) != "STORE_UNAVAILABLE" {
		t.Errorf("create: %v", err)
	}
}

// TestChangesAppearOnTheBus listens as a node does: NATS itself publishes what
// was committed.
func TestChangesAppearOnTheBus(t *testing.T) {
	sys := start(t, small())
	op := sys.operator()
	nc, err := natsd.Connect([]string{sys.store.URL()}, sys.ca.Source(t, identity.Node("n1")), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	changes, err := nc.SubscribeSync(bus.Prefix(serviceName) + ".service.shop.web")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushWithContext(soon(t)); err != nil {
		t.Fatal(err)
	}
	created := op.create(t, web("web", nodePort))
	msg, err := changes.NextMsgWithContext(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	got := &servicelbv1.Service{}
	if err := proto.Unmarshal(msg.Data, got); err != nil || got.GetRevision() != 0 {
		t.Fatalf("got %v, %v", got, err)
	}
	if got.Revision = created.GetRevision(); !proto.Equal(got, created) {
		t.Errorf("the bus has %v, the answer was %v", got, created)
	}
	op.remove(t, "web")
	if gone, err := changes.NextMsgWithContext(soon(t)); err != nil || gone.Header.Get(bus.HeaderOperation) != "DEL" {
		t.Errorf("after delete the bus has %v, %v", gone, err)
	}
}
