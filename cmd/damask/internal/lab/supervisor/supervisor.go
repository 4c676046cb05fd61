// Package supervisor is the process that holds a lab.
//
// It owns everything in the lab: the underlay, the control plane, the nodes, the
// pods and the hosts outside. It promises that nothing of the lab outlives it: it
// is process 1 of the lab's PID namespace, has a mount and a network namespace of
// its own, and no namespace of the lab has a name outside of them. It must not
// repair: what ended stays ended until somebody says start.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/apiserver"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/controlplane"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/datapath"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/node"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/nodeinit"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/pod"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/process"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/progress"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/statedir"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/topology"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/underlay"
	"github.com/damask-sdn/damask/internal/identity/authority"
	"github.com/damask-sdn/damask/internal/rpcserve"
	labv1 "github.com/damask-sdn/damask/proto/damask/lab/v1"
)

// Lock is the descriptor of the lab's lock, which is held as long as this process
// lives.
const Lock = 4

// HostNet is the descriptor of the machine's own network namespace, by which a lab reaches
// an API server that runs outside of it, and nothing else.
const HostNet = 5

// OperatorIdentity is the name of the lab's own operator certificate, in the
// directory of identities.
const OperatorIdentity = "operator-lab"

// Config is what a supervisor starts with.
type Config struct {
	// Dir is the lab's directory, with the topology in it.
	Dir statedir.Dir
	// Binaries is the directory of Damask's programs.
	Binaries string
	// Datapath is how the nodes forward.
	Datapath datapath.Datapath
	// Self is the path by which this program starts itself.
	Self string
}

// Supervisor is a lab.
type Supervisor struct {
	config    Config
	topology  *topology.Topology
	log       hclog.Logger
	tell      *progress.Teller
	reaper    *process.Reaper
	started   time.Time
	pid       int
	authority *authority.Authority
	network   *underlay.Network
	plane     *controlplane.Plane
	nodes     []*node.Node
	outside   []host
	pods      *pod.Table
	routes    routes
	// users of the topology's API server, by control service or node; empty where there is none.
	users map[string]*apiserver.Kubeconfig
	// kubeconfigs are the paths of what these users are in the lab.
	kubeconfigs map[string]string
	// tasks are what ends the lab when it fails.
	tasks *errgroup.Group
	// up is set when the lab is built: before that nothing above may be read.
	up atomic.Bool
}

// host is a machine outside of the cluster.
type host struct {
	name string
	ip   netip.Addr
}

// netns is the name of the host's network namespace.
func (h host) netns() string { return "outside-" + h.name }

// Run builds the lab, tells how it goes on the descriptor progress.File, and holds
// the lab until it is killed. It returns only when the lab cannot be built.
func Run(config Config, log hclog.Logger) error {
	up := os.NewFile(progress.File, "progress")
	if up == nil || os.Getpid() != 1 {
		return errors.New("this is the first process of a lab: `damask lab up` starts it")
	}
	for _, fd := range []int{progress.File, Lock, HostNet} {
		// A child that held the lock would keep a dead lab's name taken.
		unix.CloseOnExec(fd)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	s := &Supervisor{config: config, log: log, tell: progress.NewTeller(up), reaper: process.NewReaper(), started: time.Now(), pods: pod.NewTable()}
	// It has to outlive the context: whoever is stopped waits for its children first.
	go func() { cancel(s.reaper.Run(context.Background())) }()
	ready := make(chan struct{})
	go func() {
		// `up` says nothing: a byte or an end means that it is gone.
		_, _ = up.Read(make([]byte, 1))
		select {
		case <-ready:
		default:
			cancel(errors.New("`damask lab up` was interrupted"))
		}
	}()
	if err := s.run(ctx, ready); err != nil {
		// If nobody listens any more, the log has it.
		_ = s.tell.Fail(err)
		return err
	}
	return nil
}

// run builds the lab and then serves.
func (s *Supervisor) run(ctx context.Context, ready chan<- struct{}) error {
	server, err := s.prepare()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	s.tasks = group
	group.Go(func() error { return server.Run(ctx) })
	group.Go(func() error {
		if err := s.build(ctx); err != nil {
			return err
		}
		close(ready)
		s.up.Store(true)
		server.SetReady(true)
		if err := s.tell.Ready(); err != nil {
			return err
		}
		return s.keepRoutes(ctx)
	})
	return group.Wait()
}

// prepare does what needs no other process.
func (s *Supervisor) prepare() (*rpcserve.Server, error) {
	var err error
	if s.pid, err = machinePID(); err != nil {
		return nil, err
	}
	if s.topology, err = topology.Load(s.config.Dir.Topology()); err != nil {
		return nil, err
	}
	if s.users, err = apiserver.ReadAll(s.topology.Kubeconfigs()); err != nil {
		return nil, err
	}
	for _, dir := range []string{"logs", "nodes", "stores"} {
		if err := os.MkdirAll(s.config.Dir.Path(dir), 0o755); err != nil {
			return nil, err
		}
	}
	if err := nodeinit.PrivateRun(); err != nil {
		return nil, err
	}
	server, err := rpcserve.NewLocal(s.config.Dir.Socket(), 0o600, s.log.Named("rpc"), nil)
	if err != nil {
		return nil, err
	}
	server.Register(func(r grpc.ServiceRegistrar) { labv1.RegisterLabServiceServer(r, &service{lab: s}) })
	return server, nil
}

// machinePID is this process's id as the machine sees it, whose /proc is here.
func machinePID() (int, error) {
	target, err := os.Readlink("/proc/self")
	if err != nil {
		return 0, err
	}
	var pid int
	if _, err := fmt.Sscan(target, &pid); err != nil {
		return 0, fmt.Errorf("read /proc/self: %w", err)
	}
	return pid, nil
}
