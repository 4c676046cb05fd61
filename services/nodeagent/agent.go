package nodeagent

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/internal/identity"
	apiserver "github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/natsd"
	"github.com/damask-sdn/damask/internal/rpcdial"
	"github.com/damask-sdn/damask/internal/rpcserve"
	accessv1 "github.com/damask-sdn/damask/proto/damask/access/v1"
	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	nodev1 "github.com/damask-sdn/damask/proto/damask/node/v1"
	"github.com/damask-sdn/damask/services/nodeagent/attach"
	"github.com/damask-sdn/damask/services/nodeagent/bridge"
	"github.com/damask-sdn/damask/services/nodeagent/cnisocket"
	"github.com/damask-sdn/damask/services/nodeagent/flowsync"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/kube"
	"github.com/damask-sdn/damask/services/nodeagent/policylog"
	"github.com/damask-sdn/damask/services/nodeagent/report"
)

// Run is the agent. It returns nil when ctx ends, and leaves the node's network
// as it is. Of a nil live it is configured as it begins.
func Run(ctx context.Context, cfg Config, live *daemon.Live[Config], log hclog.Logger) error {
	group, ctx := errgroup.WithContext(ctx)
	br := bridge.New(bridge.Config{Database: cfg.OVS.Database}, log.Named("bridge"))
	group.Go(func() error { return br.Run(ctx) })
	group.Go(func() error {
		a, err := newAgent(ctx, cfg, br, log)
		if err != nil {
			return err
		}
		defer a.close()
		a.follow(live)
		return a.run(ctx)
	})
	return group.Wait()
}

// agent is the parts of a node's agent, put together.
type agent struct {
	log       hclog.Logger
	closers   []func()
	flows     *flowsync.Syncer
	plumbing  *plumbing
	followed  *followed
	register  *registration
	reporter  *report.Reporter
	prog      *intent.Programmer
	services  *services  // nil: services are somebody else's
	egress    *egress    // nil: pods leave as their node does
	firewalls *firewalls // the same
	policies  *policies
	decisions *policylog.Log
	interest  *interest
	// attachments is the CNI server.
	attachments *attach.Server
	zone        *zone
	objects     *kube.Adapter // nil: no cluster of Kubernetes is followed
	cni         *cnisocket.Server
	operators   *rpcserve.Server
	monitor     *daemon.Monitor
}

func newAgent(ctx context.Context, cfg Config, br *bridge.Bridge, log hclog.Logger) (_ *agent, err error) {
	a := &agent{log: log}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	if cfg.NodeUID, err = cfg.machineIdentity(); err != nil {
		return nil, err
	}
	source, err := identify(cfg, log)
	if err != nil {
		return nil, err
	}
	there, err := a.connect(cfg, source, log)
	if err != nil {
		return nil, err
	}
	here, err := a.open(ctx, cfg, br)
	if err != nil {
		return nil, err
	}
	if err := a.assemble(ctx, cfg, source, here, there, log); err != nil {
		return nil, err
	}
	return a, a.joinKubernetes(cfg, log)
}

// identify loads the node's certificate and sees that it is this node's.
func identify(cfg Config, log hclog.Logger) (*identity.Source, error) {
	source, err := identity.NewSource(cfg.TLS, log.Named("identity"))
	if err != nil {
		return nil, err
	}
	if got := source.ID(); got != identity.Node(cfg.Node) {
		return nil, fmt.Errorf("the certificate %s is %s's, not node/%s's", cfg.TLS.Certificate, got, cfg.Node)
	}
	return source, nil
}

// connect makes the connections to the control services and the bus. None of
// them has to be there: a node forwards and attaches without them.
func (a *agent) connect(cfg Config, source *identity.Source, log hclog.Logger) (c cluster, err error) {
	c.ipam, err = rpcdial.New(rpcdial.Config{Addresses: cfg.IPAM.Servers, Roles: []accessv1.Role{accessv1.Role_ROLE_IPAM}}, source)
	if err != nil {
		return c, err
	}
	a.onClose(func() { _ = c.ipam.Close() })
	c.tenancy, err = rpcdial.New(rpcdial.Config{Addresses: cfg.Tenancy.Servers, Roles: []accessv1.Role{accessv1.Role_ROLE_TENANCY}}, source)
	if err != nil {
		return c, err
	}
	a.onClose(func() { _ = c.tenancy.Close() })
	if len(cfg.ServiceLB.Servers) > 0 {
		c.servicelb, err = rpcdial.New(rpcdial.Config{Addresses: cfg.ServiceLB.Servers, Roles: []accessv1.Role{accessv1.Role_ROLE_SERVICELB}}, source)
		if err != nil {
			return c, err
		}
		a.onClose(func() { _ = c.servicelb.Close() })
	}
	if err := a.connectEgress(cfg, source, &c); err != nil {
		return c, err
	}
	if c.bus, err = natsd.Connect(cfg.NATS.Servers, source, log); err != nil {
		return c, err
	}
	a.onClose(c.bus.Close)
	return c, nil
}

// connectEgress makes the connections to egress, if there is one.
func (a *agent) connectEgress(cfg Config, source *identity.Source, c *cluster) (err error) {
	dial := func(addresses ...string) (*grpc.ClientConn, error) {
		conn, err := rpcdial.New(rpcdial.Config{Addresses: addresses, Roles: []accessv1.Role{accessv1.Role_ROLE_EGRESS}}, source)
		if err == nil {
			a.onClose(func() { _ = conn.Close() })
		}
		return conn, err
	}
	if len(cfg.Egress.Servers) == 0 {
		return nil
	}
	if c.egress.any, err = dial(cfg.Egress.Servers...); err != nil {
		return err
	}
	c.egress.each = map[string]*grpc.ClientConn{}
	for _, address := range cfg.Egress.Servers {
		if c.egress.each[address], err = dial(address); err != nil {
			return err
		}
	}
	return nil
}

// chooseDatapath answers what br0 is to be: as configured, or what this
// machine can do. It waits for OVSDB.
func chooseDatapath(ctx context.Context, cfg Config, br *bridge.Bridge) (string, error) {
	if cfg.Datapath != datapathAuto {
		return cfg.Datapath, nil
	}
	return br.DatapathType(ctx)
}

// listen opens the agent's own doors: the CNI socket, the API for operators,
// and metrics.
func (a *agent) listen(cfg Config, source *identity.Source, cni cniv1.CNIServiceService, node nodev1.NodeServiceServer) (err error) {
	registry := daemon.NewRegistry()
	a.cni, err = cnisocket.New(cfg.CNISocket, cni, a.log.Named("cni"), registry)
	if err != nil {
		return err
	}
	a.onClose(a.cni.Close)
	a.operators, err = rpcserve.New(rpcserve.Config{Listen: cfg.Listen}, source, a.log.Named("api"), registry)
	if err != nil {
		return err
	}
	a.onClose(a.operators.Close)
	a.operators.Register(func(r grpc.ServiceRegistrar) { nodev1.RegisterNodeServiceServer(r, node) })
	a.monitor, err = daemon.NewMonitor(cfg.Metrics, registry, a.plumbing.health)
	if err != nil {
		return err
	}
	a.onClose(a.monitor.Close)
	registry.MustRegister(newMetrics(a.flows, a.plumbing))
	if cfg.Kubernetes.Enabled {
		apiserver.Register(registry)
	}
	if a.services != nil {
		registry.MustRegister(a.services.collectors()...)
	}
	if a.egress != nil {
		registry.MustRegister(a.egress.collectors()...)
	}
	return nil
}

func (a *agent) onClose(f func()) { a.closers = append(a.closers, f) }

// close lets go of everything, last first.
func (a *agent) close() {
	for i := len(a.closers) - 1; i >= 0; i-- {
		a.closers[i]()
	}
}

// run runs the parts until ctx ends or one of them cannot go on.
func (a *agent) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	parts := []func(context.Context) error{
		a.flows.Run, a.prog.Run, a.plumbing.Run, a.register.Run, a.reporter.Run, a.interest.Run,
		a.followed.networks.Run, a.followed.hostSubnets.Run, a.followed.isolation.Run, a.followed.namespaces.Run,
		a.policies.run, a.cni.Run, a.operators.Run, a.monitor.Run,
	}
	if a.services != nil {
		parts = append(parts, a.services.Run, a.services.needs.Run, a.followed.services.Run, a.followed.slices.Run)
	}
	if a.egress != nil {
		parts = append(parts, a.egress.run, a.firewalls.run, a.firewalls.lookups.Run)
	}
	if a.objects != nil {
		parts = append(parts, a.followObjects)
	}
	for _, part := range parts {
		group.Go(func() error { return part(ctx) })
	}
	group.Go(func() error { return a.compareAfterConnecting(ctx) })
	a.operators.SetReady(true)
	return group.Wait()
}

// compareAfterConnecting asks for a pass each time that the switch is there
// again: what it holds then is not known.
func (a *agent) compareAfterConnecting(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.flows.Connected():
			a.plumbing.Connected()
		}
	}
}
