// Package node is a node of a lab's cluster: a machine that runs the node agent.
//
// It owns the agent's process, its configuration and certificate, and the CNI
// configuration by which pods are attached. It promises that Boot returns when the
// node can take pods. It must not keep pods: see package pod.
package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/controlplane"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/machine"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/operator"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/process"
	"github.com/damask-sdn/damask/internal/identity"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
)

const (
	// agentPort is that of the agent's gRPC server, as everywhere.
	agentPort = 9445
	// metricsPort is that of the agent's metrics.
	metricsPort = 9545
	// startTimeout bounds the wait for the agent to be ready.
	startTimeout = 3 * time.Minute
	// agentName is what `kill` and `start` call the agent.
	agentName = "nodeagent"
)

// Config is what a node is made of.
type Config struct {
	// Name of the node.
	Name string
	// IP is the node IP.
	IP netip.Addr
	// Subnet is the HostSubnet to ask for; invalid: any.
	Subnet netip.Prefix
	// ServiceEngine programs services: "iptables" or "nftables".
	ServiceEngine string
	// DNSServers are whom pods ask for names.
	DNSServers []netip.AddrPort
	// WithoutAgent says that the node's runtime does not use Damask until Configure.
	WithoutAgent bool
	// Zone is where the node is; empty: nowhere in particular.
	Zone string
	// Datapath is that of br0, as the agent calls it.
	Datapath string
	// Binaries is the directory of Damask's programs.
	Binaries string
	// Identity is the node's certificate.
	Identity identity.Files
	// Plane is where the services are.
	Plane *controlplane.Plane
	// Log is the agent's log file.
	Log string
	// Kubeconfig is as whom the agent speaks to an API server; empty: it does not.
	Kubeconfig string
}

// Node is one node.
type Node struct {
	// Machine is what it runs on.
	Machine *machine.Machine
	// Agent is damask-nodeagent.
	Agent *process.Daemon

	config Config
	reaper *process.Reaper

	// changing is held while the node's power or processes are changed.
	changing sync.Mutex
}

// New writes the node's configuration onto its disk; nothing runs yet.
func New(config Config, m *machine.Machine, reaper *process.Reaper) (*Node, error) {
	n := &Node{Machine: m, Agent: process.NewDaemon(reaper, agentName, config.Log), config: config, reaper: reaper}
	id, err := m.ID()
	if err != nil {
		return nil, fmt.Errorf("identity of node %s: %w", config.Name, err)
	}
	var subnets []string
	if config.Subnet.IsValid() {
		subnets = append(subnets, config.Subnet.String())
	}
	plane := config.Plane
	text := fmt.Sprintf("node: %s\nhostIP: %s\nnodeUID: %q\nrequestedSubnets: %s\ndatapath: %s\nlisten: %s\nmetrics: %s\n",
		config.Name, config.IP, id, controlplane.List(subnets), config.Datapath, n.address(agentPort), n.address(metricsPort)) +
		controlplane.TLSBlock(config.Identity) +
		fmt.Sprintf("ipam: {servers: %s}\ntenancy: {servers: %s}\nservicelb: {servers: %s}\negress: {servers: %s}\nnats: {servers: %s}\n",
			controlplane.List(plane.Service("ipam").Addresses), controlplane.List(plane.Service("tenancy").Addresses),
			controlplane.List(plane.Service("servicelb").Addresses), controlplane.List(plane.Service("egress").Addresses), controlplane.List(plane.NATSURLs())) +
		fmt.Sprintf("dns: {servers: %s}\n", controlplane.List(texts(config.DNSServers))) +
		fmt.Sprintf("services: {engine: %s, zone: %q}\n", config.ServiceEngine, config.Zone) +
		"ovs: {database: \"unix:/run/openvswitch/db.sock\", runDir: /run/openvswitch}\ncniSocket: " + cniSocket + "\n" +
		fmt.Sprintf("stateDir: %s\ntakeover: {runtimeCache: %s}\n", m.Disk("damask"), n.runtimeCache()) +
		fmt.Sprintf("kubernetes: {enabled: %t, kubeconfig: %q}\n", config.Kubeconfig != "", config.Kubeconfig)
	if err := write(n.agentConfig(), text); err != nil {
		return nil, err
	}
	if config.WithoutAgent {
		return n, nil
	}
	return n, n.Configure()
}

// Registration is how the node registers.
func (n *Node) Registration() (*ipamv1.AllocateHostSubnetRequest, error) {
	id, err := n.Machine.ID()
	if err != nil {
		return nil, fmt.Errorf("identity of node %s: %w", n.config.Name, err)
	}
	r := &ipamv1.AllocateHostSubnetRequest{Node: n.config.Name, NodeUid: id, HostIps: []string{n.config.IP.String()}}
	if n.config.Subnet.IsValid() {
		r.RequestedSubnets = []string{n.config.Subnet.String()}
	}
	return r, nil
}

func texts(servers []netip.AddrPort) []string {
	var all []string
	for _, server := range servers {
		all = append(all, server.String())
	}
	return all
}

// Name of the node.
func (n *Node) Name() string { return n.config.Name }

// IP is the node IP.
func (n *Node) IP() netip.Addr { return n.config.IP }

// AgentAddress is that of the agent's gRPC server.
func (n *Node) AgentAddress() string { return n.address(agentPort) }

// Daemons are the node's processes, in the order of their start.
func (n *Node) Daemons() []*process.Daemon {
	return []*process.Daemon{n.Machine.Database, n.Machine.Switch, n.Agent}
}

func (n *Node) address(port int) string {
	return net.JoinHostPort(n.config.IP.String(), strconv.Itoa(port))
}

func (n *Node) agentConfig() string { return n.Machine.Disk("etc", "damask", "nodeagent.yaml") }

// StartSystem switches the machine on and starts its Open vSwitch. It answers the
// names of the processes that it started.
func (n *Node) StartSystem(ctx context.Context, only string) (started []string, err error) {
	n.changing.Lock()
	defer n.changing.Unlock()
	if err := n.Machine.PowerOn(ctx); err != nil {
		return nil, err
	}
	for _, step := range []struct {
		daemon *process.Daemon
		start  func(context.Context) error
	}{{n.Machine.Database, n.Machine.StartDatabase}, {n.Machine.Switch, n.Machine.StartSwitch}} {
		if step.daemon.Running() || only != "" && only != step.daemon.Name {
			continue
		}
		if err := step.start(ctx); err != nil {
			return started, err
		}
		started = append(started, step.daemon.Name)
	}
	return started, nil
}

// StartAgent starts the agent unless it runs, and tells whether it did. It does
// not wait for it.
func (n *Node) StartAgent() (bool, error) {
	n.changing.Lock()
	defer n.changing.Unlock()
	if n.Agent.Running() {
		return false, nil
	}
	ns, err := n.Machine.Namespaces()
	if err != nil {
		return false, err
	}
	cmd := exec.Command(filepath.Join(n.config.Binaries, "damask-nodeagent"), "-config", n.agentConfig())
	return true, n.Agent.Start(ns, cmd)
}

// AwaitAgent returns when wait does, or with the end of the agent's log when the
// agent ended or took too long.
func (n *Node) AwaitAgent(ctx context.Context, wait func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ended := n.Agent.Ended()
	go func() {
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := wait(ctx)
	if err == nil {
		return nil
	}
	select {
	case <-ended:
		err = fmt.Errorf("it ended with %s", n.Agent.Snapshot().Ending)
	default:
	}
	return fmt.Errorf("start %s on %s: %w; the end of its log:\n%s", agentName, n.config.Name, err, n.Agent.Tail(10, "  "))
}

// AwaitRegistered returns when the agent has registered its node.
func (n *Node) AwaitRegistered(ctx context.Context, o *operator.Operator) error {
	id, err := n.Machine.ID()
	if err != nil {
		return err
	}
	return n.AwaitAgent(ctx, func(ctx context.Context) error { return o.AwaitRegistered(ctx, n.config.Name, id) })
}

// AwaitReady returns when the agent can attach pods.
func (n *Node) AwaitReady(ctx context.Context, o *operator.Operator) error {
	return n.AwaitAgent(ctx, func(ctx context.Context) error { return o.AwaitAgent(ctx, n.AgentAddress()) })
}

// Cut is a power failure.
func (n *Node) Cut() error {
	n.changing.Lock()
	defer n.changing.Unlock()
	return n.Machine.Cut(n.Agent)
}

// Kill sends a signal to one process of the node.
func (n *Node) Kill(name string, sig unix.Signal) error {
	for _, d := range n.Daemons() {
		if d.Name == name {
			return d.Kill(sig)
		}
	}
	return fmt.Errorf("%w %q on a node: there are ovsdb-server, ovs-vswitchd and nodeagent", ErrNoProcess, name)
}

// ErrNoProcess is what Kill answers to a name that no process has.
var ErrNoProcess = errors.New("there is no process")

func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
