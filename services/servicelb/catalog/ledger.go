package catalog

import (
	"errors"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/rpcerr"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/servicelb/spec"
)

// errBehind says that an attempt's snapshot differs from what Numbers knows. It
// lasts for microseconds.
var errBehind = errors.New("the transaction's snapshot is behind")

// ledger is one attempt of a transaction over services and what they have. Its
// methods keep the invariant: an address or port that a stored service names
// has a key of its own with that service's name, and no other key says so.
type ledger struct {
	tx      *bucket.Tx
	numbers *Numbers
}

// settle makes the claims of a service those of its next state, after it has
// filled in what is not wished for. stored is nil for a new service.
func (l ledger) settle(stored, next *servicelbv1.Service) error {
	owner := nameOf(next)
	had := map[claim]bool{}
	for _, c := range claimsOf(stored) {
		had[c.claim] = true
	}
	if err := l.takeWishes(owner, next, had); err != nil {
		return err
	}
	if err := l.fill(owner, next); err != nil {
		return err
	}
	for _, c := range claimsOf(next) {
		delete(had, c.claim)
	}
	l.free(owner, had)
	setGuard(l.tx, owner, next)
	serviceTable().Put(l.tx, next, next.GetNamespace(), next.GetName())
	return nil
}

// free gives back what a service had.
func (l ledger) free(owner Name, claims map[claim]bool) {
	for c := range claims {
		if by, taken := l.holder(c); taken && by == owner.String() {
			l.tx.Delete(c.key())
		}
	}
}

// holder answers who has something.
func (l ledger) holder(c claim) (string, bool) {
	entry, found := l.tx.Get(c.key())
	return string(entry.Value), found
}

func (l ledger) take(owner Name, c claim) { l.tx.Put(c.key(), []byte(owner.String())) }

// takeWishes takes what a service names and did not have.
func (l ledger) takeWishes(owner Name, next *servicelbv1.Service, had map[claim]bool) error {
	var invalid rpcerr.Violations
	var taken TakenError
	for _, c := range claimsOf(next) {
		if had[c.claim] {
			continue
		}
		size, known := l.numbers.state(c.kind)
		switch {
		case !known:
			return ErrNoNetwork
		case c.kind == loadBalancerIPs && (size == 0 || next.GetLoadBalancerByOthers()): // whoever gave it knows
		case !l.numbers.allows(c.kind, c.number):
			invalid.Addf(c.field, "%s is not of the %d %s that this cluster hands out", c, size, c.kind.what())
			continue
		}
		if by, found := l.holder(c.claim); found && by != owner.String() {
			taken.Conflicts = append(taken.Conflicts, Conflict{Field: c.field, Value: c.String(), By: by})
			continue
		}
		l.take(owner, c.claim)
	}
	if !invalid.Empty() {
		return &InvalidError{Violations: invalid}
	}
	if len(taken.Conflicts) > 0 {
		return &taken
	}
	return nil
}

// fill hands out what a service needs and does not name.
func (l ledger) fill(owner Name, s *servicelbv1.Service) error {
	if spec.NeedsClusterIP(s) && len(s.GetClusterIps()) == 0 {
		c, err := l.unused(owner, clusterIPs, "service.cluster_ips")
		if err != nil {
			return err
		}
		s.ClusterIps = []string{c.String()}
	}
	if spec.NeedsNodePorts(s) {
		if err := l.fillNodePorts(owner, s); err != nil {
			return err
		}
	}
	if spec.NeedsHealthCheck(s) && s.GetHealthCheckNodePort() == 0 {
		c, err := l.unused(owner, nodePorts, "service.health_check_node_port")
		if err != nil {
			return err
		}
		s.HealthCheckNodePort = c.number
	}
	if size, _ := l.numbers.state(loadBalancerIPs); spec.GetsLoadBalancer(s) && len(s.GetLoadBalancerIps()) == 0 && size > 0 {
		c, err := l.unused(owner, loadBalancerIPs, "service.load_balancer_ips")
		if err != nil {
			return err
		}
		s.LoadBalancerIps = []string{c.String()}
	}
	return nil
}

// fillNodePorts hands out node ports. As in Kubernetes, ports of one number
// that differ in their protocol get the same node port: DNS, say.
func (l ledger) fillNodePorts(owner Name, s *servicelbv1.Service) error {
	type use struct {
		protocol servicelbv1.Protocol
		nodePort uint32
	}
	used, ofPort := map[use]bool{}, map[uint32]uint32{}
	for _, p := range s.GetPorts() {
		if p.GetNodePort() != 0 {
			used[use{p.GetProtocol(), p.GetNodePort()}] = true
			ofPort[p.GetPort()] = p.GetNodePort()
		}
	}
	for _, p := range s.GetPorts() {
		if p.GetNodePort() != 0 {
			continue
		}
		number := ofPort[p.GetPort()]
		if number == 0 || used[use{p.GetProtocol(), number}] {
			c, err := l.unused(owner, nodePorts, "service.ports.node_port")
			if err != nil {
				return err
			}
			number = c.number
		}
		p.NodePort = number
		used[use{p.GetProtocol(), number}] = true
		ofPort[p.GetPort()] = number
	}
	return nil
}

// unused takes something that nobody has. It says "exhausted" only when at one
// instant nothing was free, never by adding up two instants: what the
// transaction sees as taken and Numbers does not is about to change.
func (l ledger) unused(owner Name, k kind, field string) (claim, error) {
	size, known := l.numbers.state(k)
	if !known {
		return claim{}, ErrNoNetwork
	}
	foreign := false
	number, ok := l.numbers.next(k, func(n uint32) bool {
		by, taken := l.holder(claim{k, n})
		if taken {
			foreign = foreign || by != owner.String()
		}
		return taken
	})
	switch {
	case ok:
		c := claim{k, number}
		l.take(owner, c)
		return c, nil
	case foreign:
		return claim{}, errBehind
	}
	return claim{}, &ExhaustedError{Field: field, What: k.what(), Total: size}
}
