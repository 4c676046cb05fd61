package iptables

import (
	"strings"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// partChains is how many chains one process of iptables-nft-restore is given at most.
// Its work grows with the square of the chains in its input: 5,000 services of three
// endpoints were measured to take 10 s in one input, and 0.8 s in inputs of 1,000 chains.
const partChains = 1000

// parts are batches to be sent one after the other. A change of a few services is one
// part. A full load is split: chains of services first, which nothing leads to as
// yet, then the fixed chains that lead to them.
type parts struct {
	limit   int // chains a part; 0: all in one
	batches []*batch
}

// open answers the batch to add a few chains to.
func (p *parts) open() *batch {
	if n := len(p.batches); n > 0 && (p.limit == 0 || p.batches[n-1].chains() < p.limit) {
		return p.batches[n-1]
	}
	return p.then()
}

// then answers a new batch, which is sent after all that were opened before.
func (p *parts) then() *batch {
	b := newBatch()
	p.batches = append(p.batches, b)
	return b
}

// changes counts what all the batches do.
func (p *parts) changes() proxy.Changes {
	var c proxy.Changes
	for _, b := range p.batches {
		c.Added += b.added
		c.Removed += b.removed
	}
	return c
}

// newParts makes the plan for a change of any size.
func (e *Engine) newParts() *parts { return &parts{limit: e.partChains} }

// dropOrder has chains of services in an order in which they can go one by one: each
// before those that it jumps to.
func dropOrder() []string {
	return []string{prefixRanges, prefixExternal, prefixLocal, prefixOwn, prefixService, prefixBackend}
}

// dropServices takes out those chains of services, of all that are there, that keep
// does not name.
func (p *parts) dropServices(has saved, keep map[place][]string) {
	sorted := sortedPlaces(has)
	for _, prefix := range dropOrder() {
		for _, at := range sorted {
			_, kept := keep[at]
			if !kept && at.table == tableNAT && strings.HasPrefix(at.chain, prefix) {
				p.open().drop(at, has[at])
			}
		}
	}
}
