package cli

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/proctest"
	"github.com/damask-sdn/damask/internal/replicatest"
	"github.com/damask-sdn/damask/internal/rpcdial"
	"github.com/damask-sdn/damask/internal/rpcserve"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	nodev1 "github.com/damask-sdn/damask/proto/damask/node/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// live is a real ipam, tenancy, servicelb and egress on a real NATS server, all
// over mutual TLS, and agents that answer what an agent would.
type live struct {
	t       testing.TB
	ca      *identitytest.CA
	cluster Cluster
	agents  map[string]*agent
	// rights answers the kubeconfig of a service that follows a cluster's objects; nil: none
	// does.
	rights func(service string) string
}

// startLive starts a cluster with two nodes and an address plan, of the services
// in a directory.
func startLive(t testing.TB, binaries string) *live {
	t.Helper()
	l := newLive(t)
	l.startServices(binaries, "ipam", "tenancy", "servicelb", "egress")
	l.plan()
	l.addNode("infra.ocp.cn", "192.168.108.113")
	l.addNode("node2", "192.168.108.114")
	return l
}

// startServices starts the store and services.
func (l *live) startServices(binaries string, names ...string) {
	l.t.Helper()
	server, err := natsd.Start(natsd.ServerConfig{StoreDir: l.t.TempDir(), Listen: "127.0.0.1:0", Sync: natsd.SyncPeriodic},
		l.ca.Source(l.t, identitytest.Service(l.t, "nats")), hclog.NewNullLogger())
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(server.Stop)
	where := map[string]*[]string{
		"ipam": &l.cluster.IPAM, "tenancy": &l.cluster.Tenancy, "servicelb": &l.cluster.ServiceLB, "egress": &l.cluster.Egress,
	}
	for _, name := range names {
		*where[name] = []string{l.startService(binaries, name, server.URL())}
	}
}

// newLive is a cluster in which nothing runs.
func newLive(t testing.TB) *live {
	t.Helper()
	l := &live{t: t, ca: identitytest.New(t), agents: map[string]*agent{}}
	l.cluster = Cluster{TLS: l.ca.Files(t, identity.Operator("ann")), Agents: map[string]string{}}
	return l
}

// buildServices builds the control services, and answers the directory of the
// binaries. This module must not import them.
func buildServices(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"ipam", "tenancy", "servicelb", "egress"} {
		build := exec.Command("go", "build", "-C", "../../../../services/"+name, "-o", dir, "./cmd/damask-"+name)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build damask-%s: %v\n%s", name, err, out)
		}
	}
	return dir
}

// startService starts a control service as a process that lives as long as the
// test, and answers its address.
func (l *live) startService(binaries, name, nats string) string {
	l.t.Helper()
	binary, file := filepath.Join(binaries, "damask-"+name), filepath.Join(l.t.TempDir(), name+".yaml")
	address := freeAddress()
	config := map[string]any{
		"listen": address, "metrics": "127.0.0.1:0", "tls": l.ca.Files(l.t, identitytest.Service(l.t, name)),
		"log": map[string]any{"level": "warn"}, "nats": map[string]any{"servers": []string{nats}},
	}
	if l.rights != nil {
		config["kubernetes"] = map[string]any{"enabled": true, "kubeconfig": l.rights(name)}
	}
	if name == "servicelb" {
		config["clusterIPs"], config["selectors"], config["tenancy"] = []string{"172.30.0.0/16"}, true, map[string]any{"servers": l.cluster.Tenancy}
		config["loadBalancerIPs"] = []string{"198.51.100.0/24"}
	}
	if name == "egress" {
		config["ipam"], config["tenancy"] = map[string]any{"servers": l.cluster.IPAM}, map[string]any{"servers": l.cluster.Tenancy}
	}
	text, err := yaml.Marshal(config)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		l.t.Fatal(err)
	}
	command := exec.Command(binary, "-config", file)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	proctest.Start(l.t, command)
	return address
}

// run runs a part of the cluster until stop is called, or the test ends.
func (l *live) run(part func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- part(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			l.t.Errorf("a part of the cluster ended: %v", err)
		}
	})
	l.t.Cleanup(stop)
	return stop
}

// freeAddress answers an address that nobody listens on.
func freeAddress() string {
	return replicatest.Loopback(int(addressesGiven.Add(1))) + ":9440"
}

// addressesGiven counts: each address is another one of this machine, since a port that is
// free now may be somebody else's a moment later.
var addressesGiven atomic.Int32

// dial connects to a service as somebody.
func (l *live) dial(as identity.ID, addresses []string, role accessv1.Role) *grpc.ClientConn {
	l.t.Helper()
	conn, err := rpcdial.New(rpcdial.Config{Addresses: addresses, Roles: []accessv1.Role{role}}, l.ca.Source(l.t, as))
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (l *live) plan() {
	l.t.Helper()
	conn := l.dial(identity.Operator("ann"), l.cluster.IPAM, accessv1.Role_ROLE_IPAM)
	_, err := ipamv1.NewClusterNetworkServiceClient(conn).CreateClusterNetwork(soon(l.t), &ipamv1.CreateClusterNetworkRequest{
		ClusterNetwork: &ipamv1.ClusterNetwork{
			Name:            "default",
			Networks:        []*ipamv1.ClusterNetworkEntry{{Cidr: "10.128.0.0/14", HostSubnetLength: 9}},
			ServiceNetworks: []string{"172.30.0.0/16"},
		},
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// addNode registers a node, as its agent would, and starts the agent.
func (l *live) addNode(name, ip string) {
	l.t.Helper()
	conn := l.dial(identity.Node(name), l.cluster.IPAM, accessv1.Role_ROLE_IPAM)
	answer, err := ipamv1.NewHostSubnetServiceClient(conn).AllocateHostSubnet(soon(l.t), &ipamv1.AllocateHostSubnetRequest{
		Node: name, NodeUid: "uid-" + name, HostIps: []string{ip},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.startAgent(&agent{subnet: answer.GetHostSubnet(), lagging: map[string]string{}})
}

// startAgent starts a node's agent.
func (l *live) startAgent(a *agent) {
	l.t.Helper()
	name := a.subnet.GetName()
	srv, err := rpcserve.New(rpcserve.Config{Listen: "127.0.0.1:0"}, l.ca.Source(l.t, identity.Node(name)), hclog.NewNullLogger(), nil)
	if err != nil {
		l.t.Fatal(err)
	}
	srv.Register(func(on grpc.ServiceRegistrar) { nodev1.RegisterNodeServiceServer(on, a) })
	srv.SetReady(true)
	a.stop = l.run(srv.Run)
	l.agents[name] = a
	l.cluster.Agents[name] = srv.Addr().String()
}

// registerPod reports a pod, as its node's agent would.
func (l *live) registerPod(node, namespace, name, ip string, pairs ...string) {
	l.t.Helper()
	labels, err := parseLabels(pairs)
	if err != nil {
		l.t.Fatal(err)
	}
	conn := l.dial(identity.Node(node), l.cluster.Tenancy, accessv1.Role_ROLE_TENANCY)
	_, err = tenancyv1.NewPodRegistryServiceClient(conn).RegisterPod(soon(l.t), &tenancyv1.RegisterPodRequest{Pod: &tenancyv1.Pod{
		Namespace: namespace, Name: name, Node: node, Ips: []string{ip}, SandboxId: "sandbox-" + name, Labels: labels,
	}})
	if err != nil {
		l.t.Fatal(err)
	}
}

// file writes a cluster as the file that --config names.
func (l *live) file(cluster Cluster) string {
	l.t.Helper()
	text, err := yaml.Marshal(clusterFile{
		IPAM: cluster.IPAM, Tenancy: cluster.Tenancy, ServiceLB: cluster.ServiceLB, Egress: cluster.Egress, AgentPort: DefaultAgentPort, Agents: cluster.Agents, TLS: cluster.TLS,
	})
	if err != nil {
		l.t.Fatal(err)
	}
	path := filepath.Join(l.t.TempDir(), "damask.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// agent answers NodeService. It stands for a node in which everything is in
// force, but for what lags.
type agent struct {
	nodev1.UnimplementedNodeServiceServer

	subnet *ipamv1.HostSubnet
	stop   func()
	// state answers why the node is not ready, or that nobody answers; nil: it is ready.
	state func() (why string, err error)

	mu      sync.Mutex
	lagging map[string]string // "kind name" to the object's last error
	waited  []string          // what was waited for: "kind name"
}

func (a *agent) GetNodeStatus(context.Context, *nodev1.GetNodeStatusRequest) (*nodev1.GetNodeStatusResponse, error) {
	why := ""
	if a.state != nil {
		var err error
		if why, err = a.state(); err != nil {
			return nil, err
		}
	}
	return &nodev1.GetNodeStatusResponse{Status: &nodev1.NodeStatus{
		Node: a.subnet.GetName(), HostIp: a.subnet.GetHostIps()[0], Subnet: a.subnet.GetSubnets()[0],
		DatapathType: "netdev", Mtu: 1450, Pods: 2, Flows: 120, Ready: why == "", NotReadyReason: why, Version: "v1",
	}}, nil
}

func (a *agent) WaitProgrammed(ctx context.Context, r *nodev1.WaitProgrammedRequest) (*nodev1.WaitProgrammedResponse, error) {
	what := r.GetKind() + " " + r.GetName()
	a.mu.Lock()
	a.waited = append(a.waited, what)
	problem, lags := a.lagging[what]
	a.mu.Unlock()
	if r.GetRevision() == 0 {
		return nil, status.Error(codes.InvalidArgument, "revision is required")
	}
	if lags {
		<-ctx.Done()
		return nil, status.Error(codes.DeadlineExceeded, fmt.Sprintf("%s is not programmed: %s", what, problem))
	}
	return &nodev1.WaitProgrammedResponse{Followed: true, RevisionProgrammed: r.GetRevision()}, nil
}

func (a *agent) ListObjects(context.Context, *nodev1.ListObjectsRequest) (*nodev1.ListObjectsResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	answer := &nodev1.ListObjectsResponse{}
	for what, problem := range a.lagging {
		kind, name, _ := strings.Cut(what, " ")
		answer.Objects = append(answer.Objects, &nodev1.ObjectStatus{Kind: kind, Name: name, Error: problem})
	}
	return answer, nil
}

func (a *agent) ListFlows(context.Context, *nodev1.ListFlowsRequest) (*nodev1.ListFlowsResponse, error) {
	return &nodev1.ListFlowsResponse{Flows: []*nodev1.Flow{
		{Table: 20, Text: "priority=100,ip,in_port=3,nw_src=10.128.0.2 actions=load:0x2a->NXM_NX_REG0[],goto_table:21", Owner: "pod shop/web", Comment: "its address belongs to its port", Packets: 12},
		{Table: 20, Text: "priority=0 actions=drop", Owner: "base", Comment: "anything else is spoofed", Packets: 1},
		{Table: 80, Text: "priority=7 actions=drop"},
	}}, nil
}
