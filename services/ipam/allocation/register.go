package allocation

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/damask-sdn/damask/internal/bucket"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/ipam/plan"
)

// Registration is what a node says of itself.
type Registration struct {
	// Node is the node's name.
	Node string
	// UID is the identity of the machine. Empty: it is not known yet, and whoever
	// registers under this name next has what the node has by then.
	UID string
	// HostIPs are its addresses for tunnel packets. At least one.
	HostIPs []netip.Addr
	// Wish are the subnets to adopt; empty takes the next free one.
	Wish []netip.Prefix
}

// Register gives a node its subnet, or answers the one that it has; now is
// when, for a new one. It may be repeated. Errors are Refusals of the kinds
// NoClusterNetwork, Overlap, InUse, Exhausted and Held, and what the store says.
func (s *Store) Register(ctx context.Context, r Registration, now time.Time) (*ipamv1.HostSubnet, error) {
	var result *ipamv1.HostSubnet
	sequence, err := s.update(ctx, func(tx *bucket.Tx) (err error) {
		result, err = s.register(tx, r, now)
		return err
	})
	if err != nil {
		s.metrics.refused(err)
		return nil, err
	}
	if result.GetRevision() == 0 {
		s.fillRevision(result, sequence)
	}
	return result, nil
}

// fillRevision sets the store sequence of what was just written. The view has
// it, unless somebody changed the object again meanwhile.
func (s *Store) fillRevision(written *ipamv1.HostSubnet, sequence uint64) {
	written.Revision = sequence
	if current, exists, err := s.hostSubnets.Get(s.bucket, written.GetName()); err == nil && exists {
		revision := current.GetRevision()
		current.Revision = sequence
		if proto.Equal(current, written) {
			written.Revision = revision
		}
	}
}

func (s *Store) register(tx *bucket.Tx, r Registration, now time.Time) (*ipamv1.HostSubnet, error) {
	have, known, err := s.hostSubnets.Get(tx, r.Node)
	if err != nil {
		return nil, err
	}
	stays := known && (r.UID == "" || have.GetNodeUid() == "" || have.GetNodeUid() == r.UID)
	if s.held != nil && r.UID != "" && !stays {
		if err := s.held(tx); err != nil {
			return nil, &Refusal{Kind: Held, Message: fmt.Sprintf("node %s is not known, and gets no subnet yet: %v", r.Node, err)}
		}
	}
	p, exists, err := s.planOf(tx)
	if err != nil {
		return nil, err
	}
	if !exists {
		return nil, &Refusal{Kind: NoClusterNetwork, Message: "there is no cluster network yet; an operator must create it"}
	}
	switch {
	case stays && r.UID == "":
		return s.expecting(r, have)
	case stays:
		return s.returning(tx, p, r, have)
	}
	l, err := openLedger(tx)
	if err != nil {
		return nil, err
	}
	if known { // the name belongs to another machine now
		if err := l.release(have); err != nil {
			return nil, err
		}
	}
	problems := append(l.wishProblems(p, r), l.hostIPProblems(p, r)...)
	if problems != nil {
		return nil, overlap(problems)
	}
	subnets, err := l.choose(p, r)
	if err != nil {
		return nil, err
	}
	for _, subnet := range subnets {
		l.claim(subnet, r.Node)
	}
	for _, ip := range r.HostIPs {
		l.claimHostIP(ip, r.Node)
	}
	created := &ipamv1.HostSubnet{
		Name: r.Node, Host: r.Node, HostIps: texts(r.HostIPs), Subnets: texts(subnets),
		NodeUid: r.UID, CreateTime: timestamppb.New(now),
	}
	s.hostSubnets.Put(tx, created, r.Node)
	return created, nil
}

// expecting is a known node of which somebody says that it will come.
func (s *Store) expecting(r Registration, have *ipamv1.HostSubnet) (*ipamv1.HostSubnet, error) {
	if err := wishGranted(r, have); err != nil {
		return nil, err
	}
	return have, nil
}

// wishGranted refuses a known node another wish than what it has.
func wishGranted(r Registration, have *ipamv1.HostSubnet) error {
	if len(r.Wish) == 0 || slices.Equal(texts(r.Wish), have.GetSubnets()) {
		return nil
	}
	return &Refusal{
		Kind: InUse,
		Message: fmt.Sprintf("node %s has %s and cannot get %s; release it first",
			r.Node, strings.Join(have.GetSubnets(), ", "), strings.Join(texts(r.Wish), ", ")),
		Metadata: map[string]string{"node": r.Node, "subnets": strings.Join(have.GetSubnets(), ",")},
	}
}

// returning is a node that is known by this identity, or was expected.
func (s *Store) returning(tx *bucket.Tx, p plan.Plan, r Registration, have *ipamv1.HostSubnet) (*ipamv1.HostSubnet, error) {
	if err := wishGranted(r, have); err != nil {
		return nil, err
	}
	if have.GetNodeUid() == r.UID && slices.Equal(texts(r.HostIPs), have.GetHostIps()) {
		return have, nil
	}
	l, err := openLedger(tx)
	if err != nil {
		return nil, err
	}
	if problems := l.hostIPProblems(p, r); problems != nil {
		return nil, overlap(problems)
	}
	if err := l.freeHostIPs(have); err != nil {
		return nil, err
	}
	for _, ip := range r.HostIPs {
		l.claimHostIP(ip, r.Node)
	}
	moved := proto.CloneOf(have)
	moved.HostIps, moved.NodeUid, moved.Revision = texts(r.HostIPs), r.UID, 0
	s.hostSubnets.Put(tx, moved, r.Node)
	return moved, nil
}

// wishProblems says why a node cannot have the subnets that it asks for.
func (l *ledger) wishProblems(p plan.Plan, r Registration) []string {
	var problems []string
	for _, wish := range r.Wish {
		if _, ok := p.RangeOf(wish); !ok {
			problems = append(problems, fmt.Sprintf("%s is no subnet of the cluster network (%s)", wish, ranges(p)))
		} else if owner := l.owner(wish); owner != "" {
			problems = append(problems, fmt.Sprintf("subnet %s belongs to node %s", wish, owner))
		}
	}
	return problems
}

// hostIPProblems says why a node cannot have the addresses that it says.
func (l *ledger) hostIPProblems(p plan.Plan, r Registration) []string {
	var problems []string
	for _, ip := range r.HostIPs {
		if prefix, what, found := p.Covering(ip); found {
			problems = append(problems, fmt.Sprintf("host IP %s is in the %s %s", ip, what, prefix))
		}
		if owner := l.hostIPOwner(ip); owner != "" && owner != r.Node {
			problems = append(problems, fmt.Sprintf("host IP %s belongs to node %s", ip, owner))
		}
	}
	return problems
}

func overlap(problems []string) error {
	return &Refusal{Kind: Overlap, Message: strings.Join(problems, "; ")}
}

// choose answers a new node's subnets.
func (l *ledger) choose(p plan.Plan, r Registration) ([]netip.Prefix, error) {
	if len(r.Wish) > 0 {
		return r.Wish, nil
	}
	next, found, err := l.next(p.Ranges)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, &Refusal{
			Kind:     Exhausted,
			Message:  fmt.Sprintf("no subnet is left for node %s: every one of %s is in use", r.Node, ranges(p)),
			Metadata: map[string]string{"node": r.Node},
		}
	}
	return []netip.Prefix{next}, nil
}

// ranges says what a plan has: "10.128.0.0/14 by /23 (512 subnets)".
func ranges(p plan.Plan) string {
	list := make([]string, len(p.Ranges))
	for i, r := range p.Ranges {
		list[i] = fmt.Sprintf("%s (%d subnets)", r, r.Count())
	}
	return strings.Join(list, ", ")
}

// texts writes addresses or prefixes as the API has them.
func texts[T fmt.Stringer](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = v.String()
	}
	return out
}
