package assign

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/egress/facts"
	"github.com/damask-sdn/damask/services/egress/liveness"
	"github.com/damask-sdn/damask/services/egress/store"
)

// crowd is a book with many nodes and namespaces, whose decisions are stored.
type crowd struct {
	t        testing.TB
	book     *facts.Book
	desk     *desk
	revision uint64
}

func (c *crowd) put(key string, object proto.Message) {
	c.t.Helper()
	c.revision++
	change := bucket.Change{Entry: bucket.Entry{Key: key, Revision: c.revision}, Deleted: object == nil}
	if object != nil {
		value, err := proto.Marshal(object)
		if err != nil {
			c.t.Fatal(err)
		}
		change.Value = value
	}
	c.book.Observe([]bucket.Change{change}, false)
}

// decide answers how many keys a step wrote, and how long it took to decide.
func (c *crowd) decide() (keys int, took time.Duration) {
	c.t.Helper()
	began := time.Now()
	writes := c.desk.step(c.book.Take())
	took = time.Since(began)
	for _, w := range writes {
		c.put(w.key, w.object)
	}
	return len(writes), took
}

// crowdNodes is how many nodes there are in a crowd.
const crowdNodes = 100

// newCrowd is a crowd in which so many namespaces want one address each, and nothing is
// decided yet.
func newCrowd(t testing.TB, count int) *crowd {
	c := &crowd{t: t, book: facts.New()}
	c.desk = newDesk(c.book, time.Now)
	for i := range crowdNodes {
		c.join(i)
	}
	for i := range count {
		c.bring(i)
	}
	return c
}

// bring adds a namespace with its wish.
func (c *crowd) bring(i int) {
	name := fmt.Sprintf("ns%d", i)
	c.book.SetNetNamespace(name, &tenancyv1.NetNamespace{Name: name, Netid: uint32(10 + i)}) //nolint:gosec // small
	c.want(i, i+1)
}

// join adds a node.
func (c *crowd) join(i int) {
	name := fmt.Sprintf("n%03d", i)
	c.book.SetHostSubnet(name, &ipamv1.HostSubnet{Name: name, HostIps: []string{fmt.Sprintf("10.255.0.%d", i+1)}})
	c.put(store.Nodes().Key(name), &egressv1.EgressNode{Node: name, Networks: []string{fmt.Sprintf("10.255.0.%d/8", i+1)}})
	c.put(store.HostSubnets().Key(name), &egressv1.HostSubnetEgress{Node: name, EgressCidrs: []string{"10.0.0.0/9"}})
}

// want makes a namespace want an address.
func (c *crowd) want(namespace, address int) {
	name := fmt.Sprintf("ns%d", namespace)
	ip := fmt.Sprintf("10.%d.%d.%d", 1+address>>16, address>>8&255, address&255)
	c.put(store.NetNamespaces().Key(name), &egressv1.NetNamespaceEgress{Namespace: name, EgressIps: []string{ip}})
}

// TestWhatDecisionsCost prints what changes cost with 1,000 and 10,000
// addresses over 100 nodes, and checks that the number of keys follows the
// change.
func TestWhatDecisionsCost(t *testing.T) {
	for _, count := range []int{1000, 10_000} {
		c := newCrowd(t, count)
		_, all := c.decide()
		c.want(5, 50_000)
		keys, one := c.decide()
		if keys > 3 {
			t.Errorf("a namespace's change wrote %d keys", keys)
		}
		c.book.SetHealth(liveness.Verdict{Node: "n007", Health: liveness.Down})
		moved, down := c.decide()
		if most := count/100 + 102; moved > most {
			t.Errorf("a node's death wrote %d keys, at most %d are concerned", moved, most)
		}
		t.Logf("%d addresses on 100 nodes: all decided in %v, one namespace's change in %v (%d keys), a node's death in %v (%d keys)",
			count, all.Round(time.Millisecond), one.Round(time.Microsecond), keys, down.Round(time.Microsecond), moved)
	}
}
