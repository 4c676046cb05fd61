package lab

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// A /21 a node, so that a thousand pods fit on one.
const roomyNode = `
mode: multitenant
clusterNetworks: [{cidr: 10.128.0.0/14, hostSubnetLength: 11}]
serviceNetwork: 172.30.0.0/16
nodes: [{name: node1}]
namespaces: [{name: crowd}]
`

func TestAThousandPodsComeAndGoTenAtATime(t *testing.T) {
	const pods, workers = 1000, 10
	c := up(t, roomyNode)
	// What the first pod makes for all, such as the quarantine's table, may stay.
	c.run("lab", "pod", "add", "--name", c.name, "crowd/first", "--node", "node1")
	c.run("lab", "pod", "delete", "--name", c.name, "crowd/first")
	before := c.leftovers("node1")
	inParallel(workers, pods, func(i int) {
		name := fmt.Sprintf("crowd/p%d", i)
		if out, err := c.try("lab", "pod", "add", "--name", c.name, name, "--node", "node1"); err != nil {
			t.Errorf("add %s: %v\n%s", name, err, out)
		}
	})
	if t.Failed() {
		return
	}
	c.wantDistinctAddresses(t, pods)
	inParallel(workers, pods, func(i int) {
		name := fmt.Sprintf("crowd/p%d", i)
		if out, err := c.try("lab", "pod", "delete", "--name", c.name, name); err != nil {
			t.Errorf("delete %s: %v\n%s", name, err, out)
		}
	})
	wantSameLines(t, "the node", before, c.leftovers("node1"))
	c.wantNoPodsRegistered(t)
}

// inParallel runs work for 0 to n-1 by this many workers.
func inParallel(workers, n int, work func(i int)) {
	next := make(chan int)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range next {
				work(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

func (c *cluster) wantDistinctAddresses(t *testing.T, pods int) {
	t.Helper()
	seen := map[string]string{}
	for _, p := range c.refresh().GetPods() {
		name := p.GetNamespace() + "/" + p.GetName()
		for _, ip := range p.GetIps() {
			if other, twice := seen[ip]; twice {
				t.Errorf("%s and %s both have %s", name, other, ip)
			}
			seen[ip] = name
		}
	}
	if len(seen) != pods {
		t.Errorf("%d pods have %d addresses", pods, len(seen))
	}
}

// leftovers is everything that a pod leaves on a node if it is not cleaned up.
func (c *cluster) leftovers(node string) string {
	c.t.Helper()
	quarantine := "true"
	if userspace() {
		quarantine = "nft list table netdev damask_quarantine | sort"
	}
	return c.exec(onNode(node), "sh", "-c", strings.Join([]string{
		"ovs-vsctl --no-heading --columns=name list Interface | sort",
		"ip -o link | cut -d: -f2 | sort",
		"nft list tables | sort",
		quarantine,
		"ls /run/netns | sort",
		`ovs-ofctl --no-stats --no-names dump-flows br0 | grep -v ` + stampMatch + ` | sed 's/cookie=[^,]*, //' | sort`,
	}, " && echo -- && "))
}

// wantNoPodsRegistered waits until the registry has heard of the end of every
// pod: agents report behind the pods' backs, so that no pod waits for it.
func (c *cluster) wantNoPodsRegistered(t *testing.T) {
	t.Helper()
	c.eventually(t, "no pod is registered", func() bool {
		return strings.Count(c.ctl("get", "pods"), "\n") <= 1
	})
}
