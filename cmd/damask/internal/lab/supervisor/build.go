package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/controlplane"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/enter"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/machine"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/node"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/topology"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/underlay"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/authority"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

const (
	// lifetime of the lab's certificates. A lab lives for hours.
	lifetime = 90 * 24 * time.Hour
	// trustDomain of the lab's certificates.
	trustDomain = "damask"
	// abreast is how many machines boot at once: each boot keeps a core busy.
	abreast = 4
)

// step is a part of making a lab.
type step struct {
	words string
	do    func(context.Context) error
}

// steps are all of them, in the order in which things need one another.
func (s *Supervisor) steps() []step {
	underlay := step{fmt.Sprintf("laying the underlay %s", s.topology.Underlay), s.layUnderlay}
	plane := step{"starting the control services: " + s.counts(), s.startPlane}
	boot := step{fmt.Sprintf("booting %s, each with its own Open vSwitch, datapath %s", plural(len(s.topology.Nodes), "node"), s.config.Datapath.Name), s.bootNodes}
	agents := step{"starting the node agents", s.startAgents}
	if s.onKubernetes() {
		return []step{
			underlay,
			{fmt.Sprintf("leading to the API server at %s", s.server()), s.leadToServer},
			plane,
			{"reading the cluster from its ClusterNetwork", s.awaitNetwork},
			boot, agents,
		}
	}
	return []step{
		underlay, plane,
		{fmt.Sprintf("writing down the cluster: %s mode, pods in %s", s.topology.Mode, s.topology.ClusterNetworks[0].CIDR), s.describeCluster},
		boot, agents,
		{fmt.Sprintf("attaching %s", plural(len(s.topology.Pods), "pod")), s.addPods},
		{"looking who hosts egress IPs", s.awaitEgress},
	}
}

// build makes everything in the topology.
func (s *Supervisor) build(ctx context.Context) error {
	for _, step := range s.steps() {
		if err := s.tell.Say("%s", step.words); err != nil {
			return err
		}
		if err := step.do(ctx); err != nil {
			if cause := context.Cause(ctx); cause != nil && ctx.Err() != nil {
				return cause
			}
			return err
		}
	}
	return nil
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (s *Supervisor) counts() string {
	r := s.topology.Replicas
	return fmt.Sprintf("%d nats, %d ipam, %d tenancy, %d servicelb, %d egress", r.NATS, r.IPAM, r.Tenancy, r.ServiceLB, r.Egress)
}

func (s *Supervisor) layUnderlay(context.Context) error {
	var err error
	if s.network, err = underlay.New(s.topology.Underlay, s.config.Datapath.ChecksumOffload); err != nil {
		return err
	}
	if err := s.addHost(controlplane.Host, "ctl", s.topology.Control); err != nil {
		return err
	}
	for i, o := range s.topology.Outside {
		h := host{name: o.Name, ip: o.IP}
		if err := s.addHost(h.netns(), fmt.Sprintf("out%d", i), []netip.Addr{h.ip}); err != nil {
			return err
		}
		s.outside = append(s.outside, h)
	}
	return nil
}

// addHost makes a network namespace on the underlay.
func (s *Supervisor) addHost(name, plug string, addrs []netip.Addr) error {
	if err := enter.NewNet("", name); err != nil {
		return err
	}
	path := enter.NetPath(name)
	if err := errors.Join(underlay.Quiet(path), underlay.LoopbackUp(path)); err != nil {
		return err
	}
	if err := s.network.Plug(path, plug, addrs[0]); err != nil {
		return err
	}
	return s.network.Configure(path, underlay.Interface, addrs, netip.Addr{})
}

func (s *Supervisor) startPlane(ctx context.Context) error {
	ca, err := authority.New(trustDomain, lifetime)
	if err != nil {
		return err
	}
	s.authority = ca
	files, err := ca.IssueFiles(s.config.Dir.Identity(OperatorIdentity), identity.Operator("lab"), lifetime)
	if err != nil {
		return err
	}
	source, err := identity.NewSource(files, s.log.Named("identity"))
	if err != nil {
		return err
	}
	s.plane, err = controlplane.New(controlplane.Config{
		Dir: s.config.Dir, Binaries: s.config.Binaries, Topology: s.topology, Authority: ca, Operator: source, Kubeconfigs: s.kubeconfigs,
	}, s.reaper)
	if err != nil {
		return err
	}
	for _, service := range s.plane.Services {
		if _, err := s.plane.Start(ctx, service, ""); err != nil {
			return err
		}
	}
	return nil
}

// callTimeout bounds a call to a control service.
const callTimeout = 30 * time.Second

func (s *Supervisor) describeCluster(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	t := s.topology
	plan := &ipamv1.ClusterNetwork{
		Name:            "default",
		ServiceNetworks: []string{t.ServiceNetwork.String()},
		Mtu:             uint32(t.MTU),
		Tunnel: &ipamv1.Tunnel{Port: uint32(t.Tunnel.Port), Type: map[string]ipamv1.TunnelType{
			"vxlan": ipamv1.TunnelType_TUNNEL_TYPE_VXLAN, "geneve": ipamv1.TunnelType_TUNNEL_TYPE_GENEVE, "gre": ipamv1.TunnelType_TUNNEL_TYPE_GRE,
		}[t.Tunnel.Type]},
	}
	for _, network := range t.ClusterNetworks {
		plan.Networks = append(plan.Networks, &ipamv1.ClusterNetworkEntry{Cidr: network.CIDR.String(), HostSubnetLength: uint32(network.HostSubnetLength)})
	}
	if err := s.plane.Operator.CreateClusterNetwork(ctx, plan); err != nil {
		return fmt.Errorf("create the cluster network: %w", err)
	}
	// The topology's modes are the API's, in lower case.
	mode := tenancyv1.IsolationMode_value["ISOLATION_MODE_"+strings.ToUpper(t.Mode)]
	if err := s.plane.Operator.SetIsolation(ctx, tenancyv1.IsolationMode(mode)); err != nil {
		return fmt.Errorf("set the isolation mode: %w", err)
	}
	for _, namespace := range t.Namespaces {
		if err := s.plane.Operator.CreateNamespace(ctx, namespace.Name, namespace.VNID, namespace.Labels); err != nil {
			return fmt.Errorf("create namespace %s: %w", namespace.Name, err)
		}
		if err := s.permit(ctx, namespace); err != nil {
			return fmt.Errorf("namespace %s: %w", namespace.Name, err)
		}
	}
	if err := s.describeServices(ctx); err != nil {
		return err
	}
	if err := s.describePolicies(ctx); err != nil {
		return err
	}
	return s.describeEgress(ctx)
}

// describePolicies stores the policies. Pods come later, and are closed until theirs
// are in force, so that nobody has to wait for them here.
func (s *Supervisor) describePolicies(ctx context.Context) error {
	revision := uint64(0)
	for i, manifest := range s.topology.NetworkPolicies {
		last, err := s.plane.Operator.ApplyPolicy(ctx, string(manifest))
		if err != nil {
			return fmt.Errorf("networkPolicies[%d]: %w", i, err)
		}
		revision = max(revision, last)
	}
	if revision == 0 {
		return nil
	}
	if err := s.plane.Operator.AwaitResolved(ctx, revision); err != nil {
		return fmt.Errorf("network policies: %w", err)
	}
	return nil
}

// describeEgress writes down by which addresses namespaces leave, and which nodes may
// host them. Where they are hosted is decided when the nodes are there.
func (s *Supervisor) describeEgress(ctx context.Context) error {
	for i := range s.topology.Namespaces {
		if wish := s.topology.Namespaces[i].Egress(); wish != nil {
			if err := s.plane.Operator.SetNetNamespaceEgress(ctx, wish); err != nil {
				return fmt.Errorf("egress IPs of namespace %s: %w", wish.GetNamespace(), err)
			}
		}
	}
	for i := range s.topology.Nodes {
		if offer := s.topology.Nodes[i].Egress(); offer != nil {
			if err := s.plane.Operator.SetHostSubnetEgress(ctx, offer); err != nil {
				return fmt.Errorf("egress IPs of node %s: %w", offer.GetNode(), err)
			}
		}
	}
	for i := range s.topology.EgressFirewalls {
		f := &s.topology.EgressFirewalls[i]
		if err := s.plane.Operator.PutEgressNetworkPolicy(ctx, f.Message()); err != nil {
			return fmt.Errorf("egress firewall %s: %w", f.FullName(), err)
		}
	}
	return nil
}

// permit allows a namespace what it has by an administrator only.
func (s *Supervisor) permit(ctx context.Context, namespace topology.Namespace) error {
	if namespace.Multicast {
		if err := s.plane.Operator.EnableMulticast(ctx, namespace.Name); err != nil {
			return fmt.Errorf("enable multicast: %w", err)
		}
	}
	if len(namespace.EgressRouters) == 0 {
		return nil
	}
	var sources []string
	for _, network := range namespace.EgressRouters {
		sources = append(sources, network.String())
	}
	if err := s.plane.Operator.AllowEgressRouters(ctx, namespace.Name, sources); err != nil {
		return fmt.Errorf("allow egress routers: %w", err)
	}
	return nil
}

// describeServices writes services and slices down. Those that wish for an address
// or a port come first, so that no other is given it.
func (s *Supervisor) describeServices(ctx context.Context) error {
	o := s.plane.Operator
	for _, wishing := range []bool{true, false} {
		for i := range s.topology.Services {
			service := &s.topology.Services[i]
			if service.Wishes() != wishing {
				continue
			}
			// As for pods: the namespace of a service is there when the service is.
			if _, _, err := o.EnsureNamespace(ctx, service.Namespace); err != nil {
				return fmt.Errorf("namespace %s: %w", service.Namespace, err)
			}
			if err := o.CreateService(ctx, service.Message()); err != nil {
				return fmt.Errorf("create service %s: %w", service.FullName(), err)
			}
		}
	}
	for i := range s.topology.EndpointSlices {
		slice := &s.topology.EndpointSlices[i]
		if err := o.PutEndpointSlice(ctx, slice.Message()); err != nil {
			return fmt.Errorf("create endpoint slice %s: %w", slice.FullName(), err)
		}
	}
	return nil
}

// egressTime bounds the wait for egress IPs to be hosted: a node that joins is trusted
// a second or two after it answers the others.
const egressTime = 20 * time.Second

// awaitEgress returns when each egress IP of the topology is hosted, or cannot be for a
// reason that does not pass by itself. That it takes too long is no error: a lab may
// have all sorts of things wrong with it.
func (s *Supervisor) awaitEgress(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, egressTime)
	defer cancel()
	wishes := 0
	for i := range s.topology.Namespaces {
		if wish := s.topology.Namespaces[i].Egress(); wish != nil {
			wishes += len(wish.GetEgressIps())
			for _, p := range wish.GetPods() {
				wishes += len(p.GetEgressIps())
			}
		}
	}
	if wishes == 0 {
		return nil
	}
	if err := s.plane.Operator.AwaitEgressIPs(ctx, wishes); err != nil {
		s.log.Warn("not all egress IPs are settled", "error", err)
	}
	return nil
}

// newNode prepares a node that is off.
func (s *Supervisor) newNode(i int, n topology.Node) (*node.Node, error) {
	m := machine.New(machine.Config{
		Name:     n.Name,
		IP:       n.IP,
		Datapath: s.config.Datapath,
		Gateway:  s.outside[0].ip,
		Plug:     fmt.Sprintf("node%d", i), // names of interfaces have at most 15 characters, names of nodes more
		Disk:     s.config.Dir.Disk(n.Name),
		Logs:     s.config.Dir.Path("logs"),
		Init:     []string{s.config.Self, "lab-node", n.Name},
	}, s.reaper, s.network)
	files, err := s.authority.IssueFiles(m.Disk("etc", "damask"), identity.Node(n.Name), lifetime)
	if err != nil {
		return nil, err
	}
	return node.New(node.Config{
		Name: n.Name, IP: n.IP, Subnet: n.Subnet, Datapath: s.config.Datapath.Name, Zone: n.Zone, DNSServers: s.topology.PodDNSServers, ServiceEngine: cmp.Or(n.ServiceEngine, s.topology.ServiceEngine),
		WithoutAgent: n.WithoutAgent, Kubeconfig: s.kubeconfigs[n.Name], Binaries: s.config.Binaries, Identity: files, Plane: s.plane, Log: s.config.Dir.Log(n.Name + ".nodeagent"),
	}, m, s.reaper)
}

func (s *Supervisor) bootNodes(ctx context.Context) error {
	for i, n := range s.topology.Nodes {
		made, err := s.newNode(i, n)
		if err != nil {
			return err
		}
		s.nodes = append(s.nodes, made)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(abreast)
	for _, n := range s.nodes {
		group.Go(func() error {
			_, err := n.StartSystem(ctx, "")
			return err
		})
	}
	return group.Wait()
}

// announce makes all machines known to one another. A switch that starts knows
// nobody, so all announce themselves again; and it listens only when it has a
// tunnel, so the agent has to be ready.
func (s *Supervisor) announce() error {
	for _, n := range s.nodes {
		if !n.Machine.Switch.Running() {
			continue
		}
		// A machine that goes off meanwhile has nothing to announce.
		if err := n.Machine.Announce(); err != nil && n.Machine.Switch.Running() {
			return err
		}
	}
	return nil
}

// startAgents registers the nodes one after the other, so that subnets follow the
// order of the topology; what comes after that they do side by side.
func (s *Supervisor) startAgents(ctx context.Context) error {
	// First those that ask for a subnet: otherwise an earlier node may be given it.
	for _, asking := range []bool{true, false} {
		for i, n := range s.nodes {
			if s.topology.Nodes[i].Subnet.IsValid() != asking {
				continue
			}
			if s.onKubernetes() {
				if err := s.awaitNode(ctx, s.topology.Nodes[i]); err != nil {
					return err
				}
			} else if s.topology.Nodes[i].WithoutAgent {
				if err := s.expect(ctx, n); err != nil {
					return err
				}
			}
			if s.topology.Nodes[i].WithoutAgent {
				continue
			}
			if _, err := n.StartAgent(); err != nil {
				return err
			}
			if err := n.AwaitRegistered(ctx, s.plane.Operator); err != nil {
				return err
			}
		}
	}
	group, waiting := errgroup.WithContext(ctx)
	for i, n := range s.nodes {
		if !s.topology.Nodes[i].WithoutAgent {
			group.Go(func() error { return n.AwaitReady(waiting, s.plane.Operator) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := s.announce(); err != nil {
		return err
	}
	return s.refreshRoutes(ctx)
}

// expect gives a node its HostSubnet that has no agent yet to ask for it.
func (s *Supervisor) expect(ctx context.Context, n *node.Node) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := n.Registration()
	if err == nil {
		err = s.plane.Operator.ExpectNode(ctx, r)
	}
	if err != nil {
		return fmt.Errorf("register node %s: %w", n.Name(), err)
	}
	return nil
}
