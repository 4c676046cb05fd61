package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/damask-sdn/damask/internal/bucket"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

func protoValue(revision uint64) protoreflect.Value { return protoreflect.ValueOfUint64(revision) }

// Conflict is a wanted address that another namespace has.
type Conflict struct{ IP, By string }

// TakenError says that others have what is wanted.
type TakenError struct{ Conflicts []Conflict }

func (e *TakenError) Error() string {
	phrases := make([]string, len(e.Conflicts))
	for i, c := range e.Conflicts {
		phrases[i] = fmt.Sprintf("egress IP %s belongs to namespace %s", c.IP, c.By)
	}
	return strings.Join(phrases, "; ")
}

// Wanted answers every address that a namespace wants, in order of its lists.
func Wanted(n *egressv1.NetNamespaceEgress) []string {
	all := slices.Clone(n.GetEgressIps())
	for _, p := range n.GetPods() {
		all = append(all, p.GetEgressIps()...)
	}
	return all
}

// SetNetNamespace replaces what a namespace wants. The wish is valid by itself.
// It fails with StaleError and TakenError.
func (s *Store) SetNetNamespace(ctx context.Context, wish *egressv1.NetNamespaceEgress) (*egressv1.NetNamespaceEgress, error) {
	name := wish.GetNamespace()
	return change(ctx, s, NetNamespaces().Key(name), func(tx *bucket.Tx) (*egressv1.NetNamespaceEgress, error) {
		stored, exists, err := NetNamespaces().Get(tx, name)
		if err != nil {
			return nil, err
		}
		if exists && equal(stored, wish) {
			return stored, nil
		}
		if err := checkRevision("what namespace "+name+" wants", wish.GetRevision(), stored.GetRevision()); err != nil {
			return nil, err
		}
		if err := claim(tx, name, Wanted(stored), Wanted(wish)); err != nil {
			return nil, err
		}
		if len(Wanted(wish)) == 0 {
			NetNamespaces().Delete(tx, name)
		} else {
			NetNamespaces().Put(tx, wish, name)
		}
		return bare(wish), nil
	})
}

// claim changes whose addresses are, from those that a namespace had to those
// that it wants.
func claim(tx *bucket.Tx, namespace string, had, want []string) error {
	var conflicts []Conflict
	for _, ip := range had {
		if !slices.Contains(want, ip) {
			tx.Delete(bucket.Key(kindAddress, ip))
		}
	}
	for _, ip := range want {
		key := bucket.Key(kindAddress, ip)
		if e, taken := tx.Get(key); taken && string(e.Value) != namespace {
			conflicts = append(conflicts, Conflict{IP: ip, By: string(e.Value)})
			continue
		}
		tx.Put(key, []byte(namespace))
	}
	if len(conflicts) > 0 {
		return &TakenError{Conflicts: conflicts}
	}
	return nil
}

// SetHostSubnet replaces what a node may host; whether it is drained stays. It
// fails with StaleError.
func (s *Store) SetHostSubnet(ctx context.Context, wish *egressv1.HostSubnetEgress) (*egressv1.HostSubnetEgress, error) {
	return s.changeHostSubnet(ctx, wish.GetNode(), func(stored *egressv1.HostSubnetEgress) (*egressv1.HostSubnetEgress, error) {
		next := bare(wish)
		next.Drained = stored.GetDrained()
		if equal(stored, next) {
			return next, nil
		}
		return next, checkRevision("what node "+wish.GetNode()+" may host", wish.GetRevision(), stored.GetRevision())
	})
}

// Drain says whether a node is drained.
func (s *Store) Drain(ctx context.Context, node string, drained bool) (*egressv1.HostSubnetEgress, error) {
	return s.changeHostSubnet(ctx, node, func(stored *egressv1.HostSubnetEgress) (*egressv1.HostSubnetEgress, error) {
		next := bare(stored)
		next.Drained = drained
		return next, nil
	})
}

func (s *Store) changeHostSubnet(ctx context.Context, node string, next func(stored *egressv1.HostSubnetEgress) (*egressv1.HostSubnetEgress, error)) (*egressv1.HostSubnetEgress, error) {
	return change(ctx, s, HostSubnets().Key(node), func(tx *bucket.Tx) (*egressv1.HostSubnetEgress, error) {
		stored, exists, err := HostSubnets().Get(tx, node)
		if err != nil {
			return nil, err
		}
		if !exists {
			stored = &egressv1.HostSubnetEgress{Node: node}
		}
		wish, err := next(stored)
		if err != nil {
			return nil, err
		}
		if exists && equal(stored, wish) {
			return stored, nil
		}
		if len(wish.GetEgressIps())+len(wish.GetEgressCidrs()) == 0 && wish.Capacity == nil && !wish.GetDrained() {
			HostSubnets().Delete(tx, node)
		} else {
			HostSubnets().Put(tx, wish, node)
		}
		return wish, nil
	})
}

// SetNetworks stores which networks a node is in.
func (s *Store) SetNetworks(ctx context.Context, node string, networks []string) error {
	_, err := change(ctx, s, Nodes().Key(node), func(tx *bucket.Tx) (*egressv1.EgressNode, error) {
		stored, exists, err := Nodes().Get(tx, node)
		if err != nil {
			return nil, err
		}
		if exists && slices.Equal(stored.GetNetworks(), networks) {
			// Whoever is about to forget the node must notice that it is there.
			Nodes().Touch(tx, node)
			return bare(stored), nil
		}
		next := &egressv1.EgressNode{Node: node}
		if exists {
			next = proto.CloneOf(stored)
		}
		next.Networks = networks
		Nodes().Put(tx, next, node)
		return bare(next), nil
	})
	return err
}
