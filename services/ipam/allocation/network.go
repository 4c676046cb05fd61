package allocation

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/ipam/plan"
)

// forgetMost bounds how many marks of freed subnets one change of the plan
// removes: half of what a transaction may write.
const forgetMost = bucket.MaxWrites / 2

// namedMost bounds how many objections a refusal lists.
const namedMost = 10

// Create stores the plan. Creating what is there answers it; another one is
// refused (AlreadyExists).
func (s *Store) Create(ctx context.Context, p plan.Plan) (*ipamv1.ClusterNetwork, error) {
	var result *ipamv1.ClusterNetwork
	sequence, err := s.update(ctx, func(tx *bucket.Tx) error {
		stored, exists, err := s.networks.Get(tx, plan.Name)
		if err != nil {
			return err
		}
		if exists {
			return s.createAgain(p, stored, &result)
		}
		if _, err := openLedger(tx); err != nil {
			return err
		}
		result = p.Message()
		s.networks.Put(tx, result, plan.Name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.written(result, sequence), nil
}

func (s *Store) createAgain(p plan.Plan, stored *ipamv1.ClusterNetwork, result **ipamv1.ClusterNetwork) error {
	old, err := parseStored(stored)
	if err != nil {
		return err
	}
	if !old.Equal(p) {
		return &Refusal{Kind: AlreadyExists, Message: "there is another cluster network already; update it instead"}
	}
	*result = stored
	return nil
}

// Replace stores another plan in place of the one of that revision. Refusals
// are NotFound, StaleRevision, InUse and Overlap.
func (s *Store) Replace(ctx context.Context, p plan.Plan, revision uint64) (*ipamv1.ClusterNetwork, error) {
	var result *ipamv1.ClusterNetwork
	sequence, err := s.update(ctx, func(tx *bucket.Tx) error {
		stored, exists, err := s.networks.Get(tx, plan.Name)
		switch {
		case err != nil:
			return err
		case !exists:
			return &Refusal{Kind: NotFound, Message: "there is no cluster network to update"}
		case stored.GetRevision() != revision || revision == 0: // 0: changed by this very commit, or not given
			return &Refusal{Kind: StaleRevision, Message: fmt.Sprintf(
				"the cluster network is at revision %d, not %d: read it again", stored.GetRevision(), revision)}
		}
		old, err := parseStored(stored)
		if err != nil {
			return err
		}
		if old.Equal(p) {
			result = stored
			return nil
		}
		if err := s.mayReplace(tx, old, p); err != nil {
			return err
		}
		l, err := openLedger(tx)
		if err != nil {
			return err
		}
		if err := l.adopt(p); err != nil {
			return err
		}
		result = p.Message()
		s.networks.Put(tx, result, plan.Name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.written(result, sequence), nil
}

// mayReplace compares the plans with what nodes have.
func (s *Store) mayReplace(r bucket.Reader, old, next plan.Plan) error {
	hostSubnets, err := s.hostSubnets.List(r)
	if err != nil {
		return err
	}
	nodes := make([]plan.Node, len(hostSubnets))
	for i, h := range hostSubnets {
		if nodes[i], err = planNode(h); err != nil {
			return err
		}
	}
	o := plan.Replace(old, next, nodes)
	message := summary(append(o.InUse, o.Overlap...))
	switch {
	case o.InUse != nil:
		return &Refusal{Kind: InUse, Message: message}
	case o.Overlap != nil:
		return &Refusal{Kind: Overlap, Message: message}
	}
	return nil
}

// summary names the objections, but not thousands of them.
func summary(objections []string) string {
	if more := len(objections) - namedMost; more > 0 {
		objections = append(objections[:namedMost:namedMost], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(objections, "; ")
}

func planNode(h *ipamv1.HostSubnet) (plan.Node, error) {
	node := plan.Node{Name: h.GetName()}
	for _, text := range h.GetSubnets() {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return node, fmt.Errorf("stored host subnet %s is damaged: %w", h.GetName(), err)
		}
		node.Subnets = append(node.Subnets, p)
	}
	for _, text := range h.GetHostIps() {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return node, fmt.Errorf("stored host subnet %s is damaged: %w", h.GetName(), err)
		}
		node.HostIPs = append(node.HostIPs, ip)
	}
	return node, nil
}

// adopt keeps of the ledger what the new plan has too.
func (l *ledger) adopt(p plan.Plan) error {
	kept := map[string]uint32{}
	for _, r := range p.Ranges {
		if n, ok := l.cursor[r.String()]; ok {
			kept[r.String()] = n
		}
	}
	l.cursor = kept
	if err := l.forgetFreed(p, forgetMost); err != nil {
		return err
	}
	return l.storeCursor()
}

// written is a plan that was just stored, with its revision.
func (s *Store) written(m *ipamv1.ClusterNetwork, sequence uint64) *ipamv1.ClusterNetwork {
	if m.GetRevision() != 0 {
		return m // it was there before
	}
	m.Revision = sequence
	if current, exists, err := s.networks.Get(s.bucket, plan.Name); err == nil && exists {
		revision := current.GetRevision()
		current.Revision = sequence
		if proto.Equal(current, m) {
			m.Revision = revision
		}
	}
	return m
}
