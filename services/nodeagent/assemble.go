package nodeagent

import (
	"context"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"google.golang.org/grpc"

	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/internal/identity"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/ancestor"
	"github.com/damask-sdn/damask/services/nodeagent/attach"
	"github.com/damask-sdn/damask/services/nodeagent/bridge"
	"github.com/damask-sdn/damask/services/nodeagent/flowsync"
	"github.com/damask-sdn/damask/services/nodeagent/hostport"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/lease"
	"github.com/damask-sdn/damask/services/nodeagent/link"
	"github.com/damask-sdn/damask/services/nodeagent/masquerade"
	"github.com/damask-sdn/damask/services/nodeagent/nodeapi"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"github.com/damask-sdn/damask/services/nodeagent/outside"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
	"github.com/damask-sdn/damask/services/nodeagent/policylog"
	"github.com/damask-sdn/damask/services/nodeagent/report"
)

// cluster is the connections to what is elsewhere.
type cluster struct {
	ipam, tenancy *grpc.ClientConn
	servicelb     *grpc.ClientConn // nil: services are somebody else's
	egress        egressServers    // empty: pods leave as their node does
	bus           *nats.Conn
}

// machine is what the agent works on here.
type machine struct {
	bridge   *bridge.Bridge
	datapath string
	links    *link.Links
	rules    *masquerade.Rules
	ports    *hostport.Rules
	leases   *lease.Store
}

// open opens what the agent works on. It waits for OVSDB.
func (a *agent) open(ctx context.Context, cfg Config, br *bridge.Bridge) (m machine, err error) {
	m.bridge = br
	if m.datapath, err = chooseDatapath(ctx, cfg, br); err != nil {
		return m, err
	}
	if m.links, err = link.Open(link.Config{Userspace: m.datapath == datapathNetdev}); err != nil {
		return m, err
	}
	a.onClose(func() { _ = m.links.Close() })
	if m.rules, err = masquerade.New(); err != nil {
		return m, err
	}
	if m.ports, err = hostport.New(hostport.DefaultProgram); err != nil {
		return m, err
	}
	if m.leases, err = lease.Open(filepath.Join(cfg.StateDir, "leases")); err != nil {
		return m, err
	}
	a.onClose(func() { _ = m.leases.Close() })
	return m, nil
}

// assemble makes the parts and tells them of one another, and opens the agent's
// own doors last.
func (a *agent) assemble(ctx context.Context, cfg Config, source *identity.Source, m machine, c cluster, log hclog.Logger) error {
	state := intent.NewState(cfg.Node, m.datapath == datapathNetdev)
	a.flows = flowsync.New(flowsync.Config{
		Socket: filepath.Join(cfg.OVS.RunDir, m.bridge.Name()+".mgmt"), Fragments: openflow.FragmentsNXMatch, Meters: pipeline.Meters(), Copied: a.copied, Stamp: stamp(m.datapath),
	}, log.Named("flowsync"))
	a.prog, a.decisions = intent.NewProgrammer(state, a.flows, log.Named("intent")), policylog.New(state, log)
	before := ancestor.Node{Socket: cfg.Takeover.Socket, RuntimeCache: cfg.Takeover.RuntimeCache}
	ports := &hostPorts{rules: m.ports, state: state, bit: uint8(cfg.MasqueradeBit)}
	var err error
	if a.zone, err = newZone(cfg, log.Named("zone")); err != nil {
		return err
	}
	p := &pods{
		node: cfg.Node, zone: a.zone, state: state, programmer: a.prog, leases: m.leases, hostPorts: ports, log: log.Named("pods"),
		count: map[string]int{}, waiting: map[string]bool{}, admitted: map[[2]string]bool{},
	}
	a.reporter = report.New(cfg.Node, tenancyv1.NewPodRegistryServiceClient(c.tenancy), p.registered, log.Named("report"))
	p.reporter = a.reporter
	a.register = newRegistration(ipamv1.NewHostSubnetServiceClient(c.ipam), cfg, log.Named("register"))
	a.register.registered = a.reporter.Again
	a.plumbing = &plumbing{
		state: state, programmer: a.prog, bridge: m.bridge, links: m.links, rules: m.rules, hostPorts: ports, pods: p, register: a.register,
		metered: a.flows.HasMeters, hostIP: cfg.HostIP, datapath: m.datapath, maskBit: uint8(cfg.MasqueradeBit), every: cfg.AuditInterval, audits: make(chan time.Duration, 1),
		ancestor: before, log: log.Named("plumbing"), wake: make(chan struct{}, 1), missing: state.Missing(),
	}
	p.wake, a.register.wake = a.plumbing.Wake, a.plumbing.Wake
	if a.services, err = a.newServices(ctx, cfg, state, c.servicelb, before, a.zone); err != nil {
		return err
	}
	a.plumbing.services = a.services
	a.zone.changed = append(a.zone.changed, func(string) { a.reporter.Changed() })
	if a.egress, err = a.newEgress(ctx, cfg, state, c, m); err != nil {
		return err
	}
	a.plumbing.egress = a.egress
	a.policies = newPolicies(cfg.Node, state, a.prog, log.Named("policies"))
	a.policies.followed = followPolicies(c.bus, c.tenancy, cacheIn(cfg.StateDir), a.policies, log)
	a.policies.followed.pods.Want(cfg.Node)
	a.plumbing.policies, p.policies = a.policies, a.policies
	state.KeepConnections(!cfg.NetworkPolicy.CutConnections)
	to := &sink{
		node: cfg.Node, state: state, programmer: a.prog, wake: a.plumbing.Wake, services: a.services, hostPorts: ports, released: a.register.Again, forgotten: a.reporter.Again,
		appeared: func(hs *ipamv1.HostSubnet) { a.plumbing.meet(ctx, hs) }, log: log.Named("followed"),
	}
	if err := a.assembleFirewalls(ctx, cfg, state, c, to, p); err != nil {
		return err
	}
	a.followed = newFollowed(c, cfg.StateDir, to, log)
	a.interest = newInterest(a.followed.namespaces, state, a.prog.Queue)
	if a.egress != nil {
		a.followLeaving(cfg, c, log)
	}
	p.namespaces, p.interest = a.followed.namespaces, a.interest
	if a.services != nil {
		a.services.namespaces, a.services.interest = a.followed.namespaces, a.interest
	}
	attachments := attach.New(attach.Parts{
		Leases: m.leases, Site: a.plumbing, Ports: m.bridge, Links: m.links, Programmer: p, HostPorts: ports, Names: p, Registry: p, Predecessor: before,
	}, log.Named("attach"))
	p.restorer, a.attachments = attachments, attachments
	api := nodeapi.Config{
		Node: cfg.Node, HostIP: cfg.HostIP.String(), Version: daemon.Version(), Started: time.Now(),
		State: state, Programmer: a.prog, Switch: a.flows, Leases: m.leases,
		Plumbing: a.plumbing.describe, Audit: a.plumbing.audited, Policies: a.policies,
	}
	if a.services != nil {
		api.Services = a.services
	}
	return a.listen(cfg, source, attachments, nodeapi.New(api))
}

// assembleFirewalls makes the part for firewalls, if there are any, and what keeps services from leading
// past them.
func (a *agent) assembleFirewalls(ctx context.Context, cfg Config, state *intent.State, c cluster, to *sink, p *pods) (err error) {
	if a.egress == nil {
		return nil
	}
	if a.firewalls, err = a.newFirewalls(ctx, cfg, state, c); err != nil {
		return err
	}
	to.guard, p.guard = a.firewalls.guard, a.firewalls.guard
	if a.services != nil {
		to.slices = outside.NewSlices(ctx, outside.Config{
			State: state, HostIP: cfg.HostIP, Want: a.firewalls.leadingWant, Resolve: a.firewalls.resolveAll, Patience: resolving,
			Changed: a.services.SliceChanged, Wake: a.services.Wake,
		})
		a.services.slices, a.firewalls.slices = to.slices, to.slices
	}
	return nil
}

// followLeaving makes the parts for egress IPs and firewalls follow what egress decides.
func (a *agent) followLeaving(cfg Config, c cluster, log hclog.Logger) {
	a.egress.followed = followEgress(c.bus, c.egress.any, cacheIn(cfg.StateDir), a.egress, log)
	a.firewalls.followed = followFirewalls(c.bus, a.firewalls.client, cacheIn(cfg.StateDir), a.firewalls, log)
	a.egress.firewalls, a.plumbing.firewalls = a.firewalls, a.firewalls
	a.egress.begin()
	a.interest.leaving = []leaving{a.egress, a.firewalls}
	a.register.registered = func() { a.reporter.Again(); a.egress.networks.Again() }
}

// stamp is what each change of flows leaves in a switch in userspace, which else corrects
// what it has cached in the wrong place.
func stamp(datapath string) *flowsync.Stamp {
	if datapath != datapathNetdev {
		return nil
	}
	return &flowsync.Stamp{Owner: pipeline.StampOwner, Flows: pipeline.Stamp, Number: pipeline.StampNumber}
}
