package tenancy

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bus"
	"github.com/damask-sdn/damask/internal/configfile/configfiletest"
	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcerr"
	"github.com/damask-sdn/damask/internal/rpcserve"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

const referenceFile = "../../deploy/config/tenancy.yaml"

func TestTheReferenceFileDocumentsEveryField(t *testing.T) {
	configfiletest.Documented(t, referenceFile, &Config{})
	if _, err := Load(referenceFile); err != nil {
		t.Error(err)
	}
}

func TestAWrongFileSaysAllThatIsWrong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tenancy.yaml")
	text := "listen: nowhere\nmetrics: 0.0.0.0:9542\ntls:\n  certificate: a\nlog:\n  level: loud\nnats:\n  replicas: 2\nvnids: all\nipam:\n  servers: [x]\ninitialIsolationMode: open\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path)
	if err == nil {
		t.Fatal("it was accepted")
	}
	for _, part := range []string{":1: listen", "tls.key", "tls.ca", ":6: log.level", ":8: nats.replicas", "storeDir", ":9: vnids", ":11: ipam.servers[0]", ":12: initialIsolationMode"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is missing in:\n%v", part, err)
		}
	}
}

func TestRunStopsWhenItIsToldTo(t *testing.T) {
	ca := identitytest.New(t)
	cfg := Config{
		Config: rpcserve.Config{Listen: "127.0.0.1:0"}, Metrics: "127.0.0.1:0",
		TLS:  ca.Files(t, identitytest.Service(t, "tenancy")),
		NATS: natsd.Config{Embedded: natsd.Embedded{StoreDir: t.TempDir(), Listen: "127.0.0.1:0"}},
	}
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
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
	good := Config{
		Config: rpcserve.Config{Listen: "127.0.0.1:0"}, Metrics: "127.0.0.1:0",
		TLS:  ca.Files(t, identitytest.Service(t, "tenancy")),
		NATS: natsd.Config{Embedded: natsd.Embedded{StoreDir: t.TempDir(), Listen: "127.0.0.1:0"}},
	}
	cases := []struct {
		name  string
		spoil func(*Config)
		want  string
	}{
		{"the certificate of another service", func(c *Config) { c.TLS = ca.Files(t, identitytest.Service(t, "ipam")) }, "service/ipam, not of service/tenancy"},
		{"the certificate of a node", func(c *Config) { c.TLS = ca.Files(t, identity.Node("n1")) }, "node/n1, not of service/tenancy"},
		{"an occupied gRPC port", func(c *Config) { c.Listen = occupied.Addr().String() }, "another process uses this port"},
		{"an occupied metrics port", func(c *Config) { c.Metrics = occupied.Addr().String() }, occupied.Addr().String()},
		{"an occupied NATS port", func(c *Config) { c.NATS.Embedded.Listen = occupied.Addr().String() }, occupied.Addr().String()},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := good
			c.spoil(&cfg)
			err := Run(soon(t), cfg, hclog.NewNullLogger())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("run: %v, want %q in it", err, c.want)
			}
		})
	}
}

// TestTheDaemonChecksItsFile runs the real process with -check.
func TestTheDaemonChecksItsFile(t *testing.T) {
	var out, problems strings.Builder
	program := daemon.Program[Config]{Name: "damask-tenancy", Load: Load, Log: func(c Config) daemon.Log { return c.Log }, Run: Run}
	if code := program.Execute(t.Context(), []string{"-check", "-config", referenceFile}, &out, &problems); code != 0 {
		t.Errorf("exit code %d: %s", code, problems.String())
	}
	if got := out.String() + problems.String(); got != referenceFile+": ok\n" {
		t.Errorf("it says %q", got)
	}
}

func TestWithoutTheStoreQuestionsAreAnsweredAndChangesRefused(t *testing.T) {
	sys := start(t, vnid.Default())
	op, node := sys.operator(), sys.node("n1")
	op.create(t, "shop", 42)
	listen := strings.TrimPrefix(sys.store.URL(), "tls://")
	sys.store.Stop()

	for who, c := range map[string]client{"operator": op, "node": node} {
		page, err := c.ListNetNamespaces(soon(t), &tenancyv1.ListNetNamespacesRequest{})
		if err != nil || len(page.GetNetNamespaces()) != 2 {
			t.Errorf("list as %s: %v, %v", who, page, err)
		}
		one, err := c.GetNetNamespace(soon(t), &tenancyv1.GetNetNamespaceRequest{Name: "shop"})
		if err != nil || one.GetNetNamespace().GetNetid() != 42 {
			t.Errorf("get as %s: %v, %v", who, one, err)
		}
	}
	_, err := op.CreateNetNamespace(soon(t), &tenancyv1.CreateNetNamespaceRequest{Name: "web"})
	if status.Code(err) != codes.Unavailable || rpcerr.Reason(err) != "STORE_UNAVAILABLE" {
		t.Errorf("create: %v", err)
	}

	sys.startStore(listen)
	op.create(t, "web", 43) // rpcdial tries again until the replica is back
	if ns := op.create(t, "shop"); ns.GetNetid() != 42 {
		t.Errorf("after the store is back: %v", ns)
	}
}

// TestChangesAppearOnTheBus listens as a node does: NATS itself publishes what
// was committed.
func TestChangesAppearOnTheBus(t *testing.T) {
	sys := start(t, vnid.Default())
	op := sys.operator()
	nc, err := natsd.Connect([]string{sys.store.URL()}, sys.ca.Source(t, identity.Node("n1")), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	changes, err := nc.SubscribeSync(bus.Prefix("tenancy") + ".netnamespace.shop")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushWithContext(soon(t)); err != nil {
		t.Fatal(err)
	}
	created := op.create(t, "shop", 42)
	if got := next(t, changes); got.GetNetid() != 42 || got.GetName() != "shop" || got.GetRevision() != 0 {
		t.Errorf("after create the bus has %v", got)
	}
	enabled, err := op.SetNetNamespaceMulticast(soon(t), &tenancyv1.SetNetNamespaceMulticastRequest{Name: "shop", Enabled: true})
	if err != nil || enabled.GetNetNamespace().GetRevision() <= created.GetRevision() {
		t.Fatalf("multicast: %v, %v", enabled, err)
	}
	if got := next(t, changes); got.GetNetid() != 42 || !got.GetMulticastEnabled() {
		t.Errorf("after multicast was enabled the bus has %v", got)
	}
	moved, err := op.MakeNetNamespaceGlobal(soon(t), &tenancyv1.MakeNetNamespaceGlobalRequest{Name: "shop"})
	if err != nil || moved.GetNetNamespace().GetRevision() <= created.GetRevision() {
		t.Fatalf("global: %v, %v", moved, err)
	}
	if got := next(t, changes); got.GetNetid() != 0 || !got.GetMulticastEnabled() {
		t.Errorf("after global the bus has %v", got)
	}
	if _, err := op.DeleteNetNamespace(soon(t), &tenancyv1.DeleteNetNamespaceRequest{Name: "shop"}); err != nil {
		t.Fatal(err)
	}
	gone, err := changes.NextMsgWithContext(soon(t))
	if err != nil || gone.Header.Get(bus.HeaderOperation) != "DEL" {
		t.Errorf("after delete the bus has %v, %v", gone, err)
	}
}

func next(t *testing.T, changes *nats.Subscription) *tenancyv1.NetNamespace {
	t.Helper()
	msg, err := changes.NextMsgWithContext(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	ns := &tenancyv1.NetNamespace{}
	if err := proto.Unmarshal(msg.Data, ns); err != nil {
		t.Fatal(err)
	}
	return ns
}
