package killtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/proctest"
	"github.com/damask-sdn/damask/internal/replicatest"
	"github.com/damask-sdn/damask/internal/rpcdial"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
)

// patience bounds a look at the store. Only a broken one meets it.
const patience = 30 * time.Second

// build builds the service's binary as it is.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "damask-ipam")
	out, err := exec.Command("go", "build", "-o", binary, "github.com/damask-sdn/damask/services/ipam/cmd/damask-ipam").CombinedOutput()
	if err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

// address answers a loopback address of this process alone. A killed process
// starts again on its own port, which nobody may take meanwhile; outgoing
// connections come from 127.0.0.1, so they never do.
func address(n, port int) string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d:%d", 10+pid>>8%200, pid%256, 1+n, port)
}

// replica is one process and how to start it again.
type replica struct {
	binary, config, listen string
	process                *proctest.Process
}

// newReplica writes the configuration of the n-th replica; nats is its "nats"
// block.
func newReplica(t *testing.T, ca *identitytest.CA, binary string, n int, nats string) *replica {
	t.Helper()
	files := ca.Files(t, identitytest.Service(t, "ipam"))
	r := &replica{binary: binary, config: filepath.Join(t.TempDir(), "ipam.yaml"), listen: address(n, 9441)}
	content := fmt.Sprintf("listen: %s\nmetrics: %s\ntls: {certificate: %s, key: %s, ca: %s}\nlog: {level: warn}\nnats: %s\n",
		r.listen, address(n, 9541), files.Certificate, files.Key, files.CA, nats)
	if err := os.WriteFile(r.config, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *replica) start(t *testing.T) {
	t.Helper()
	cmd := exec.Command(r.binary, "-config", r.config)
	cmd.Stderr = os.Stderr
	r.process = proctest.Start(t, cmd)
}

// startNATS runs the store in this process; it is not what dies here.
func startNATS(t *testing.T, ca *identitytest.CA) *natsd.Server {
	t.Helper()
	id, err := identity.Service("nats")
	if err != nil {
		t.Fatal(err)
	}
	srv, err := natsd.Start(natsd.ServerConfig{StoreDir: t.TempDir(), Listen: address(0, 4222)}, ca.Source(t, id), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Stop)
	return srv
}

// operator is a client of all replicas.
type operator struct {
	networks    ipamv1.ClusterNetworkServiceClient
	hostSubnets ipamv1.HostSubnetServiceClient
}

func dial(t *testing.T, ca *identitytest.CA, replicas ...*replica) operator {
	t.Helper()
	var addresses []string
	for _, r := range replicas {
		addresses = append(addresses, r.listen)
	}
	conn, err := rpcdial.New(rpcdial.Config{Addresses: addresses, Roles: []accessv1.Role{accessv1.Role_ROLE_IPAM}}, ca.Source(t, identity.Operator("test")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return operator{networks: ipamv1.NewClusterNetworkServiceClient(conn), hostSubnets: ipamv1.NewHostSubnetServiceClient(conn)}
}

func (o operator) createPlan(cidr string, hostBits uint32) error {
	return replicatest.Again(func(ctx context.Context) error {
		_, err := o.networks.CreateClusterNetwork(ctx, &ipamv1.CreateClusterNetworkRequest{ClusterNetwork: &ipamv1.ClusterNetwork{
			Networks:        []*ipamv1.ClusterNetworkEntry{{Cidr: cidr, HostSubnetLength: hostBits}},
			ServiceNetworks: []string{"172.30.0.0/16"},
		}})
		return err
	})
}

// node names the n-th node.
func node(n int) string { return fmt.Sprintf("node-%d.example.org", n) }

func (o operator) allocate(n int, uid string) (subnet string, err error) {
	err = replicatest.Again(func(ctx context.Context) error {
		answer, err := o.hostSubnets.AllocateHostSubnet(ctx, &ipamv1.AllocateHostSubnetRequest{
			Node: node(n), NodeUid: uid, HostIps: []string{net.IPv4(192, 168, byte(n>>8), byte(n)).String()},
		})
		if err == nil {
			subnet = answer.GetHostSubnet().GetSubnets()[0]
		}
		return err
	})
	return subnet, err
}

func (o operator) release(n int) error {
	return replicatest.Again(func(ctx context.Context) error {
		_, err := o.hostSubnets.ReleaseHostSubnet(ctx, &ipamv1.ReleaseHostSubnetRequest{Node: node(n)})
		return err
	})
}
