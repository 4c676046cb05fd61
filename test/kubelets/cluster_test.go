package kubelets

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/damask-sdn/damask/internal/kubetest"
	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
)

const (
	// underlayBits is the length of the prefix of the network between machines, whose
	// first address is the API server's.
	underlayBits = 24
	// step is how often a question is asked whose answer nobody announces.
	step = 100 * time.Millisecond
	// limit bounds a wait. It matters only when something hangs.
	limit = 4 * time.Minute
)

// cluster is a control plane with nodes.
type cluster struct {
	*kubetest.Cluster
	underlay *netnstest.Namespace
	nodes    []*node
}

// start starts a cluster of that many nodes, which have these images, without a pod
// network: none is ready.
func start(t *testing.T, nodes int, images []string) *cluster {
	t.Helper()
	proctest.Need(t, "containerd", "ctr", "runc", "ovs-vswitchd", "ovsdb-server", "ip", "nft", "ethtool")
	c := &cluster{Cluster: kubetest.StartControlPlane(t), underlay: netnstest.New(t, "underlay")}
	c.underlay.Run(t, "ip", "link", "add", "underlay", "type", "bridge")
	c.underlay.Run(t, "ip", "address", "add", fmt.Sprintf("%s/%d", kubetest.Advertised, underlayBits), "dev", "underlay")
	c.underlay.Run(t, "ip", "link", "set", "underlay", "up")
	// Machines' switches pass on what has no checksum yet.
	c.underlay.Run(t, "ethtool", "-K", "underlay", "tx", "off")
	var listener net.Listener
	c.underlay.Do(t, func() {
		var err error
		if listener, err = net.Listen("tcp4", c.address()); err != nil {
			t.Fatal(err)
		}
	})
	c.ServeAlsoAt(t, listener)
	addr := netip.MustParseAddr(kubetest.Advertised)
	for i := range nodes {
		addr = addr.Next()
		c.nodes = append(c.nodes, c.newNode(t, fmt.Sprintf("node%d", i+1), addr, images))
	}
	// As an API server is that runs on the first node.
	c.ReachBy(func(ctx context.Context, address string) (net.Conn, error) {
		return c.nodes[0].Net.Dial(ctx, "tcp", address)
	})
	var importing errgroup.Group
	for _, n := range c.nodes {
		importing.Go(func() error { return n.importImages(images) })
	}
	if err := importing.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes {
		n.startKubelet(t)
	}
	return c
}

// address is where the API server is for machines.
func (c *cluster) address() string { return fmt.Sprintf("%s:%d", kubetest.Advertised, c.Port()) }

// until asks with kubectl until the answer is as wanted, and ends the test when that
// takes too long, with what `show` says then.
func (c *cluster) until(t *testing.T, want string, ask ...string) {
	t.Helper()
	c.waitFor(t, fmt.Sprintf("kubectl %s says %q", strings.Join(ask, " "), want), func() error {
		got, err := c.TryKubectl(ask...)
		if err == nil && got != want {
			err = fmt.Errorf("it says %q", got)
		}
		return err
	})
}

// waitFor asks until there is no error, and ends the test when that takes too long.
func (c *cluster) waitFor(t *testing.T, what string, ask func() error) {
	t.Helper()
	began := time.Now()
	ticker := time.NewTicker(step)
	defer ticker.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Since(began) > limit {
			c.show(t)
			t.Fatalf("wait until %s: %v", what, err)
		}
		<-ticker.C
	}
}

// wait is `kubectl wait`, and ends the test when that takes too long.
func (c *cluster) wait(t *testing.T, args ...string) {
	t.Helper()
	if out, err := c.TryKubectl(append([]string{"wait", fmt.Sprintf("--timeout=%v", limit)}, args...)...); err != nil {
		c.show(t)
		t.Fatalf("%v\n%s", err, out)
	}
}

// show says what there is, beside a failure.
func (c *cluster) show(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{{"get", "nodes", "-o", "wide"}, {"get", "pods", "-A", "-o", "wide"}, {"get", "events", "-A", "--sort-by=.lastTimestamp"}} {
		out, err := c.TryKubectl(args...)
		t.Logf("kubectl %s:\n%s (%v)", strings.Join(args, " "), out[max(0, len(out)-6000):], err)
	}
}
