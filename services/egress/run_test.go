package egress

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

	"github.com/damask-sdn/damask/internal/configfile/configfiletest"
	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcerr"
	"github.com/damask-sdn/damask/internal/rpcserve"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

const referenceFile = "../../deploy/config/egress.yaml"

func TestTheReferenceFileDocumentsEveryField(t *testing.T) {
	configfiletest.Documented(t, referenceFile, &Config{})
	if _, err := Load(referenceFile); err != nil {
		t.Error(err)
	}
}

func TestAWrongFileSaysAllThatIsWrong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "egress.yaml")
	if err := os.WriteFile(path, []byte("listen: nowhere\nmetrics: 0.0.0.0:9544\nlog: {level: loud}\nnats: {replicas: 2}\nipam: {servers: [x]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path)
	if err == nil {
		t.Fatal("it was accepted")
	}
	for _, part := range []string{
		":1: listen", "tls.key", "tls.ca", ":3: log.level", ":4: nats.replicas", "storeDir", ":5: ipam.servers[0]", "tenancy.servers: required",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is missing in:\n%v", part, err)
		}
	}
}

// config is a valid configuration, with neighbours that are away.
func config(t *testing.T, ca *identitytest.CA) Config {
	t.Helper()
	away := Servers{Servers: []string{"127.0.0.1:1"}}
	return Config{
		Config: rpcserve.Config{Listen: "127.0.0.1:0"}, Metrics: "127.0.0.1:0", TLS: ca.Files(t, identitytest.Service(t, serviceName)),
		NATS: natsd.Config{Embedded: natsd.Embedded{StoreDir: t.TempDir(), Listen: "127.0.0.1:0"}}, IPAM: away, Tenancy: away,
	}
}

func TestRunStopsWhenItIsToldTo(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	if err := Run(ctx, config(t, identitytest.New(t)), nil, hclog.NewNullLogger()); err != nil {
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
		{"the certificate of another service", func(c *Config) { c.TLS = ca.Files(t, identitytest.Service(t, "ipam")) }, "service/ipam, not of service/egress"},
		{"the certificate of a node", func(c *Config) { c.TLS = ca.Files(t, identity.Node("n1")) }, "node/n1, not of service/egress"},
		{"an occupied gRPC port", func(c *Config) { c.Listen = occupied.Addr().String() }, "another process uses this port"},
		{"an occupied metrics port", func(c *Config) { c.Metrics = occupied.Addr().String() }, occupied.Addr().String()},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := config(t, ca)
			c.spoil(&cfg)
			err := Run(soon(t), cfg, nil, hclog.NewNullLogger())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("run: %v, want %q in it", err, c.want)
			}
		})
	}
}

// TestTheDaemonChecksItsFile runs the real program with -check.
func TestTheDaemonChecksItsFile(t *testing.T) {
	var out, problems strings.Builder
	program := daemon.Program[Config]{Name: "damask-egress", Load: Load, Log: func(c Config) daemon.Log { return c.Log }, RunLive: Run}
	if code := program.Execute(t.Context(), []string{"-check", "-config", referenceFile}, &out, &problems); code != 0 {
		t.Errorf("exit code %d: %s", code, problems.String())
	}
	if got := out.String() + problems.String(); got != referenceFile+": ok\n" {
		t.Errorf("it says %q", got)
	}
}

func TestWithoutTheStoreQuestionsAreAnsweredAndChangesRefused(t *testing.T) {
	sys := start(t, 1)
	op, node := sys.operator(), sys.as(identity.Node("n1"))
	stored := op.want(t, "shop", "192.0.2.7")
	sys.store.Stop()
	for who, c := range map[string]client{"operator": op, "node": node} {
		page, err := c.ListNetNamespaceEgress(soon(t), &egressv1.ListNetNamespaceEgressRequest{})
		if err != nil || len(page.GetNetNamespaceEgress()) != 1 || !proto.Equal(page.GetNetNamespaceEgress()[0], stored) {
			t.Errorf("list as %s: %v, %v", who, page, err)
		}
	}
	_, err := op.SetNetNamespaceEgress(soon(t), &egressv1.SetNetNamespaceEgressRequest{NetNamespaceEgress: &egressv1.NetNamespaceEgress{Namespace: "bank"}})
	if rpcerr.Reason(err) != "STORE_UNAVAILABLE" {
		t.Errorf("set: %v", err)
	}
}
