package lab

import (
	"net/netip"

	"google.golang.org/protobuf/encoding/protojson"

	labv1 "github.com/damask-sdn/damask/proto/damask/lab/v1"
)

// refresh asks the lab how it is; the answers below are from the last time.
func (c *cluster) refresh() *labv1.Lab {
	c.t.Helper()
	c.lab = &labv1.Lab{}
	if err := protojson.Unmarshal([]byte(c.run("lab", "status", "--name", c.name, "-o", "json")), c.lab); err != nil {
		c.t.Fatalf("lab status: %v", err)
	}
	return c.lab
}

func (c *cluster) known() *labv1.Lab {
	if c.lab == nil {
		return c.refresh()
	}
	return c.lab
}

// podIP answers the address of a pod, NAMESPACE/NAME.
func (c *cluster) podIP(name string) string { return c.pod(name).GetIps()[0] }

func (c *cluster) pod(name string) *labv1.Pod {
	c.t.Helper()
	for range 2 {
		for _, p := range c.known().GetPods() {
			if p.GetNamespace()+"/"+p.GetName() == name && len(p.GetIps()) > 0 {
				return p
			}
		}
		c.lab = nil
	}
	c.t.Fatalf("the lab has no pod %s with an address", name)
	return nil
}

func (c *cluster) node(name string) *labv1.Node {
	c.t.Helper()
	for _, n := range c.known().GetNodes() {
		if n.GetName() == name {
			return n
		}
	}
	c.t.Fatalf("the lab has no node %s", name)
	return nil
}

// nodeIP answers the node's address on the underlay.
func (c *cluster) nodeIP(name string) string { return c.node(name).GetIp() }

// gateway answers tun0's address: the first of the node's subnet.
func (c *cluster) gateway(name string) string {
	c.t.Helper()
	prefix, err := netip.ParsePrefix(c.node(name).GetSubnet())
	if err != nil {
		c.t.Fatal(err)
	}
	return prefix.Addr().Next().String()
}

// outsideIP answers the address of a host that is not of the cluster.
func (c *cluster) outsideIP(name string) string {
	c.t.Helper()
	for _, h := range c.known().GetOutside() {
		if h.GetName() == name {
			return h.GetIp()
		}
	}
	c.t.Fatalf("the lab has no outside host %s", name)
	return ""
}
