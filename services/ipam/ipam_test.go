package ipam_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/internal/configfile/configfiletest"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcdial"
	"github.com/damask-sdn/damask/internal/rpcserve"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/ipam"
)

const reference = "../../deploy/config/ipam.yaml"

func TestTheReferenceConfigurationIsRightAndDocumentsEveryField(t *testing.T) {
	if _, err := ipam.Load(reference); err != nil {
		t.Error(err)
	}
	configfiletest.Documented(t, reference, new(ipam.Config))
}

func TestEveryProblemOfAConfigurationIsReported(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ipam.yaml")
	content := "listen: here\ntls: {certificate: a, kee: b}\nnats:\n  replicas: 2\n  servers: [\"nats://h\"]\n" +
		"initialNetwork: {networks: [{cidr: 10.1.0.0/8}], tunnel: {type: ipip}}\n"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := ipam.Load(path)
	want := []string{
		`:1: listen: "here" is not HOST:PORT`,
		`:1: metrics: required`,
		`:2: tls.kee: unknown field; known here: certificate, key, ca, trustDomain`,
		`:2: tls.key: required`,
		`:2: tls.ca: required`,
		`:4: nats.replicas: 2 is not 1, 3 or 5`,
		`:5: nats.servers: "nats://h" is not of the form tls://HOST:PORT`,
		`:6: initialNetwork.tunnel.type: "ipip" is not vxlan, geneve or gre`,
		`:6: initialNetwork.networks[0].cidr: "10.1.0.0/8" is not canonical: "10.0.0.0/8" is`,
		`:6: initialNetwork.networks[0].hostSubnetLength: 0 is not within 2 to 30`,
		`:6: initialNetwork.serviceNetworks: at least one is required`,
	}
	if got := fmt.Sprint(err); got != path+strings.Join(want, "\n"+path) {
		t.Errorf("got\n%s", got)
	}
}

// free answers an address of this machine that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// embedded is a configuration with a store of its own.
func embedded(t *testing.T, ca *identitytest.CA) ipam.Config {
	t.Helper()
	return ipam.Config{
		Config: rpcserve.Config{Listen: free(t)}, Metrics: free(t), TLS: ca.Files(t, identitytest.Service(t, "ipam")),
		NATS: natsd.Config{Embedded: natsd.Embedded{StoreDir: t.TempDir(), Listen: free(t)}},
	}
}

// start runs the service until the test ends or stop is called.
func start(t *testing.T, cfg ipam.Config) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ipam.Run(ctx, cfg, hclog.NewNullLogger()) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the service ended with %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

type clients struct {
	networks    ipamv1.ClusterNetworkServiceClient
	hostSubnets ipamv1.HostSubnetServiceClient
}

func dial(t *testing.T, ca *identitytest.CA, id identity.ID, addresses ...string) clients {
	t.Helper()
	conn, err := rpcdial.New(rpcdial.Config{Addresses: addresses, Roles: []accessv1.Role{accessv1.Role_ROLE_IPAM}}, ca.Source(t, id))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return clients{networks: ipamv1.NewClusterNetworkServiceClient(conn), hostSubnets: ipamv1.NewHostSubnetServiceClient(conn)}
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func usual() *ipamv1.CreateClusterNetworkRequest {
	return &ipamv1.CreateClusterNetworkRequest{ClusterNetwork: &ipamv1.ClusterNetwork{
		Networks:        []*ipamv1.ClusterNetworkEntry{{Cidr: "10.128.0.0/14", HostSubnetLength: 9}},
		ServiceNetworks: []string{"172.30.0.0/16"},
	}}
}

func register(node string) *ipamv1.AllocateHostSubnetRequest {
	return &ipamv1.AllocateHostSubnetRequest{Node: node, NodeUid: "uid-" + node, HostIps: []string{"192.0.2.1"}}
}

func TestTheServiceKeepsItsStateOverARestartAndSharesItWithAReplica(t *testing.T) {
	ca := identitytest.New(t)
	first := embedded(t, ca)
	stop := start(t, first)
	operator := dial(t, ca, identity.Operator("root"), first.Listen)
	if _, err := operator.networks.CreateClusterNetwork(soon(t), usual()); err != nil {
		t.Fatal(err)
	}
	node := dial(t, ca, identity.Node("n1"), first.Listen)
	before, err := node.hostSubnets.AllocateHostSubnet(soon(t), register("n1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.hostSubnets.AllocateHostSubnet(soon(t), register("n2")); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a node that registers another one: got %v", err)
	}
	stop()

	start(t, first)
	second := embedded(t, ca)
	second.NATS = natsd.Config{Servers: []string{"tls://" + first.NATS.Embedded.Listen}}
	start(t, second)
	for _, address := range []string{first.Listen, second.Listen} {
		after, err := dial(t, ca, identity.Node("n1"), address).hostSubnets.GetHostSubnet(soon(t), &ipamv1.GetHostSubnetRequest{Node: "n1"})
		if err != nil || after.GetHostSubnet().GetRevision() != before.GetHostSubnet().GetRevision() || after.GetHostSubnet().GetSubnets()[0] != "10.128.0.0/23" {
			t.Errorf("%s: got %v, %v", address, after, err)
		}
	}
	for path, want := range map[string]string{
		"/healthz": "ok",
		"/metrics": `damask_ipam_subnets_allocated{range="10.128.0.0/14"} 1`,
	} {
		if body := fetch(t, "http://"+second.Metrics+path); !strings.Contains(body, want) {
			t.Errorf("%s has no %s:\n%s", path, want, body)
		}
	}
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var body strings.Builder
	if _, err := fmt.Fprint(&body, response.Status); err != nil {
		t.Fatal(err)
	}
	if err := response.Write(&body); err != nil {
		t.Fatal(err)
	}
	return body.String()
}

func TestWhatAPersonMustPutRightEndsTheService(t *testing.T) {
	ca := identitytest.New(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	address := taken.Addr().String()
	for _, tc := range []struct {
		name string
		edit func(*ipam.Config)
		want string
	}{
		{"occupied gRPC port", func(c *ipam.Config) { c.Listen = address }, "listen on " + address + ": another process uses this port"},
		{"occupied metrics port", func(c *ipam.Config) { c.Metrics = address }, "listen on " + address + ": another process uses this port"},
		{"occupied NATS port", func(c *ipam.Config) { c.NATS.Embedded.Listen = address }, "start NATS server: listen on " + address + ": another process uses this port"},
		{"another's certificate", func(c *ipam.Config) { c.TLS = ca.Files(t, identity.Node("n1")) }, "is that of node/n1, not of service/ipam"},
		{"no certificate", func(c *ipam.Config) { c.TLS.Certificate = "/none.crt" }, "load identity: stat /none.crt: no such file or directory"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := embedded(t, ca)
			tc.edit(&cfg)
			if err := ipam.Run(soon(t), cfg, hclog.NewNullLogger()); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestAServiceThatStillWaitsForItsStoreStops(t *testing.T) {
	ca := identitytest.New(t)
	cfg := embedded(t, ca)
	cfg.NATS = natsd.Config{Servers: []string{"tls://" + free(t)}}
	start(t, cfg)()
}
