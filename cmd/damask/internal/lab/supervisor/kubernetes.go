package supervisor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/apiserver"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/controlplane"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/enter"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/operator"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/topology"
)

// objectTime bounds the wait for objects that a lab needs: who made them made them before.
const objectTime = time.Minute

// onKubernetes tells whether the cluster is what an API server's objects say.
func (s *Supervisor) onKubernetes() bool { return s.topology.Kubernetes != nil }

// server is where the API server is on the machine. All users have the same.
func (s *Supervisor) server() (server netip.AddrPort) {
	for _, user := range s.users {
		server = user.Server
	}
	return server
}

// leadToServer gives the control host a port that leads to the API server, and each
// control service and agent its kubeconfig.
func (s *Supervisor) leadToServer(ctx context.Context) error {
	relay := netip.AddrPortFrom(s.topology.Control[0], apiserver.Port)
	var listener *net.TCPListener
	err := enter.Do(enter.Namespaces{Net: enter.NetPath(controlplane.Host)}, func() error {
		var err error
		listener, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(relay))
		return err
	})
	if err != nil {
		return fmt.Errorf("lead to the API server: %w", err)
	}
	// /proc is the machine's, so self is this process there too.
	dial := operator.Dialer(fmt.Sprintf("/proc/self/fd/%d", HostNet))
	s.tasks.Go(func() error {
		return apiserver.NewRelay(listener, s.server(), dial, s.log.Named("apiserver")).Run(ctx)
	})
	s.kubeconfigs = map[string]string{}
	for name, user := range s.users {
		path := s.config.Dir.Path("kubeconfigs", name)
		if err := user.Write(path, relay); err != nil {
			return fmt.Errorf("write the kubeconfig of %s: %w", name, err)
		}
		s.kubeconfigs[name] = path
	}
	return nil
}

// awaitNetwork returns when ipam has the address plan of the ClusterNetwork.
func (s *Supervisor) awaitNetwork(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, objectTime)
	defer cancel()
	if err := s.plane.Operator.AwaitClusterNetwork(ctx); err != nil {
		return fmt.Errorf("ask for the ClusterNetwork %q of the API server, which must be there and Accepted (its definition is in deploy/crds): %w", "default", err)
	}
	return nil
}

// awaitNode returns when ipam has the HostSubnet of a node, which is there when its Node
// is: an agent that registers before is taken for one whose Node is gone.
func (s *Supervisor) awaitNode(ctx context.Context, n topology.Node) error {
	ctx, cancel := context.WithTimeout(ctx, objectTime)
	defer cancel()
	subnet, err := s.plane.Operator.AwaitHostSubnet(ctx, n.Name)
	if err != nil {
		return fmt.Errorf("ask for the HostSubnet of node %s, for which the API server must have a Node with an InternalIP: %w", n.Name, err)
	}
	for _, ip := range subnet.GetHostIps() {
		if ip == n.IP.String() {
			return nil
		}
	}
	return fmt.Errorf("node %s has the address %s in the topology, and %v as a Node of the API server", n.Name, n.IP, subnet.GetHostIps())
}
