package policyflow

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// A conjunction is a rule, or the part of it that is about named ports, which
// has another shape: there the port goes with the address that has the name.
type conjunction struct {
	name     string // Says whose it is; its id follows from it.
	key      policy.Key
	index    int // Of the rule in the policy.
	rule     *policy.Rule
	named    bool
	id       uint32
	table    uint8
	priority uint16
	result   []openflow.Action

	// Clauses in order: the subject is 1. 0 is a clause that it does not have.
	peer, ports, any, of uint8
	blocks               []netip.Prefix // Of peer.
	masks                []Ports        // Of ports.
}

// conjunctions are those that a rule comes down to, at most two.
func conjunctions(key policy.Key, index int, r *policy.Rule) []*conjunction {
	var all []*conjunction
	base := conjunction{name: key.String() + " rule " + strconv.Itoa(index), key: key, index: index, rule: r, of: 1}
	if r.AnyPort || len(r.Ports) > 0 {
		c := base
		if !r.AnyPeer {
			c.nextClause(&c.peer)
			c.blocks = Cover(blocksOf(r))
		}
		if !r.AnyPort {
			c.nextClause(&c.ports)
			c.masks = CoverPorts(r.Ports)
		}
		all = append(all, c.closed())
	}
	if r.Direction == policy.Ingress && !r.AnyPort && len(r.Named) > 0 {
		c := base
		c.name, c.named = base.name+" by name", true
		if !r.AnyPeer {
			c.nextClause(&c.peer)
			c.blocks = Cover(blocksOf(r))
		}
		all = append(all, c.closed())
	}
	if r.Direction == policy.Egress && len(r.Endpoints) > 0 {
		c := base
		c.name, c.named = base.name+" by name", true
		c.nextClause(&c.peer)
		all = append(all, c.closed())
	}
	return all
}

func (c *conjunction) nextClause(n *uint8) {
	c.of++
	*n = c.of
}

// closed gives a conjunction of the subject alone a second clause, that
// everything fulfils: a switch wants two.
func (c conjunction) closed() *conjunction {
	if c.of == 1 {
		c.nextClause(&c.any)
	}
	return &c
}

func blocksOf(r *policy.Rule) []policy.Block {
	var blocks []policy.Block
	for _, p := range r.Peers {
		if p.Block.CIDR.IsValid() {
			blocks = append(blocks, p.Block)
		}
	}
	return blocks
}

// eachFixed visits the terms that only the rule itself decides about.
func (c *conjunction) eachFixed(visit func(term, uint8)) {
	for _, p := range c.blocks {
		visit(c.sided(false, p), c.peer)
	}
	for _, m := range c.masks {
		visit(term{table: c.table, priority: c.priority, ports: m}, c.ports)
	}
	if c.any > 0 {
		visit(term{table: c.table, priority: c.priority}, c.any)
	}
}

// eachOfPod visits the terms of a pod that the policy applies to.
func (c *conjunction) eachOfPod(p *policy.Pod, visit func(term, uint8)) {
	for _, a := range p.Addresses {
		address, ok := at(a)
		if !ok {
			continue
		}
		if !c.named || c.rule.Direction == policy.Egress {
			visit(c.sided(true, address), 1)
			continue
		}
		for _, port := range p.Ports {
			for _, n := range c.rule.Named {
				if n.Name == port.Name && n.Protocol == port.Protocol {
					t := c.sided(true, address)
					t.ports = Ports{port.Protocol, port.Port, 0xffff}
					visit(t, 1)
				}
			}
		}
	}
}

// eachOfMember visits the terms of a member of a group that the rule names.
func (c *conjunction) eachOfMember(id policy.GroupID, m policy.Member, visit func(term, uint8)) {
	address, ok := at(m.Addr)
	byName := c.named && c.rule.Direction == policy.Egress
	if !ok || byName != (m.Port != 0) {
		return // A member with a port is an endpoint, one without is an address.
	}
	if byName {
		for _, e := range c.rule.Endpoints {
			if e.Group == id && e.Holds(m.Addr) {
				t := c.sided(false, address)
				t.ports = Ports{e.Protocol, m.Port, 0xffff}
				visit(t, c.peer)
			}
		}
		return
	}
	if c.peer == 0 {
		return
	}
	for _, p := range c.rule.Peers {
		if p.Group == id {
			visit(c.sided(false, address), c.peer)
		}
	}
}

// groups answers the groups that the conjunction's terms come from, each once.
func (c *conjunction) groups() []policy.GroupID {
	var ids []policy.GroupID
	if c.named && c.rule.Direction == policy.Egress {
		for _, e := range c.rule.Endpoints {
			ids = append(ids, e.Group)
		}
	} else if c.peer > 0 {
		for _, p := range c.rule.Peers {
			ids = append(ids, p.Group)
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	return slices.DeleteFunc(ids, func(id policy.GroupID) bool { return id == "" })
}

// flows are what happens to a packet that fulfils all clauses: one flow for those
// that begin a connection, another for the rest of it, which counts both. What is told
// of a connection is told when it begins.
func (c *conjunction) flows(tell []openflow.Action) []openflow.Flow {
	flow := func(known uint32, actions []openflow.Action) openflow.Flow {
		return openflow.Flow{Table: c.table, Priority: c.priority, Match: openflow.IP().ConjID(c.id).Reg(pipeline.RegKnown, known), Actions: actions}
	}
	return []openflow.Flow{flow(pipeline.KnownNew, slices.Concat(tell, c.result)), flow(pipeline.KnownLetPass, c.result)}
}
