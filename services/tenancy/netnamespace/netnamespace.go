// Package netnamespace gives namespaces their VNIDs.
//
// It owns the keys netnamespace.<name> and vnid.<n>. It promises that both
// sides always change in one atomic commit: a VNID above 1 has no owners but
// the namespaces that joined there, and a VNID is free again in the same
// instant in which its last namespace is gone, also when the process is killed
// at any point. Any number of processes may write; each decision is made anew
// when somebody else was faster. Concurrent requests act as if they came one
// after the other; only the isolation mode and the registered pods are judged
// as they were at some moment of the call, since a commit compares what it
// writes. It must not know who asks, nor what nodes make of a VNID.
package netnamespace

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/damask-sdn/damask/internal/bucket"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/catchup"
	"github.com/damask-sdn/damask/services/tenancy/labels"
	"github.com/damask-sdn/damask/services/tenancy/registry"
	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

const (
	// Default is the namespace that always exists; it starts with VNID 0.
	Default = "default"
	// NameLabel is the label with the namespace's name that every namespace has.
	NameLabel = "kubernetes.io/metadata.name"
)

// Wish is a namespace as somebody wants it.
type Wish struct {
	// Name is a DNS-1123 label.
	Name string
	// VNID is the wished one; nil for any.
	VNID *uint32
	// Adopt takes VNID over as it is, also when others have it: they joined, before
	// the store was lost.
	Adopt bool
	// Labels include NameLabel.
	Labels map[string]string
}

// Store decides about namespaces. It is safe for concurrent use.
type Store struct {
	bucket  *bucket.Bucket
	numbers *Numbers
}

// New returns the store of a bucket of whose changes numbers is told.
func New(b *bucket.Bucket, numbers *Numbers) *Store {
	return &Store{bucket: b, numbers: numbers}
}

// EnsureDefault creates the namespace "default" with VNID 0 if it is not there.
func (s *Store) EnsureDefault(ctx context.Context) error {
	_, err := s.change(ctx, func(l ledger) (*tenancyv1.NetNamespace, error) {
		ns, err := l.find(Default)
		if ns != nil || err != nil {
			return ns, err
		}
		return l.create(Wish{Name: Default, Labels: map[string]string{NameLabel: Default}})
	})
	if err != nil {
		return fmt.Errorf("create namespace %q: %w", Default, err)
	}
	return nil
}

// Create gives a namespace a VNID: the wished one, 0 for "default", or one
// that nobody has. What exists already and fits is answered. It fails with
// ExistsError, TakenError, ExhaustedError, or CrowdedError for VNID 1.
func (s *Store) Create(ctx context.Context, wish Wish) (*tenancyv1.NetNamespace, error) {
	return s.change(ctx, func(l ledger) (*tenancyv1.NetNamespace, error) {
		ns, err := l.find(wish.Name)
		if err != nil {
			return nil, err
		}
		if ns == nil {
			return l.create(wish)
		}
		if differs := differences(ns, wish); len(differs) > 0 {
			return nil, &ExistsError{Name: wish.Name, Differs: differs}
		}
		return ns, nil
	})
}

func (l ledger) create(wish Wish) (*tenancyv1.NetNamespace, error) {
	number, err := l.choose(wish)
	if err != nil {
		return nil, err
	}
	if err := l.enter(wish.Name, number); err != nil {
		return nil, err
	}
	ns := &tenancyv1.NetNamespace{Name: wish.Name, Netname: wish.Name, Netid: number, Labels: wish.Labels}
	return ns, l.write(ns)
}

// choose answers the VNID of a new namespace.
func (l ledger) choose(wish Wish) (uint32, error) {
	if wish.VNID == nil {
		if wish.Name == Default {
			return vnid.Global, nil
		}
		return l.unused()
	}
	if vnid.Shared(*wish.VNID) || wish.Adopt {
		return *wish.VNID, nil
	}
	taken, err := l.holders(*wish.VNID)
	if err != nil {
		return 0, err
	}
	if len(taken) > 0 {
		return 0, &TakenError{VNID: *wish.VNID, By: taken}
	}
	return *wish.VNID, nil
}

func differences(ns *tenancyv1.NetNamespace, wish Wish) []string {
	var differs []string
	if wish.VNID != nil && *wish.VNID != ns.GetNetid() {
		differs = append(differs, fmt.Sprintf("VNID %d instead of %d", ns.GetNetid(), *wish.VNID))
	}
	if !maps.Equal(ns.GetLabels(), wish.Labels) {
		differs = append(differs, "other labels")
	}
	return differs
}

// UpdateLabels changes labels of a namespace. It fails with NotFoundError and
// labels.TooLargeError.
func (s *Store) UpdateLabels(ctx context.Context, name string, change labels.Change) (*tenancyv1.NetNamespace, error) {
	return s.change(ctx, func(l ledger) (*tenancyv1.NetNamespace, error) {
		ns, err := l.require(name)
		if err != nil {
			return nil, err
		}
		after, err := change.Apply(ns.GetLabels())
		if err != nil || maps.Equal(after, ns.GetLabels()) {
			return ns, err
		}
		ns.Labels = after
		return ns, l.write(ns)
	})
}

// Delete removes a namespace, and frees its VNID if nobody shares it. One that
// is not there is a success. It fails with DefaultError and PodsError.
func (s *Store) Delete(ctx context.Context, name string) error {
	if name == Default {
		return &DefaultError{Verb: "deleted"}
	}
	_, err := s.change(ctx, func(l ledger) (*tenancyv1.NetNamespace, error) {
		ns, err := l.find(name)
		if ns == nil || err != nil {
			return nil, err
		}
		if count, pod := registry.InNamespace(l.tx, name); count > 0 {
			return nil, &PodsError{Name: name, Count: count, Example: pod.GetName(), Node: pod.GetNode()}
		}
		l.tx.Delete(namespaceKey(name))
		return nil, l.leave(name, ns.GetNetid())
	})
	return err
}

// Join gives a namespace the VNID of another. It fails with ModeError,
// NotFoundError and CrowdedError.
func (s *Store) Join(ctx context.Context, name, target string) (*tenancyv1.NetNamespace, error) {
	return s.change(ctx, func(l ledger) (*tenancyv1.NetNamespace, error) {
		if err := l.requireVNIDs(); err != nil {
			return nil, err
		}
		ns, err := l.require(name)
		if err != nil {
			return nil, err
		}
		host, err := l.require(target)
		if err != nil {
			return nil, err
		}
		if host.GetNetid() == vnid.Global && ns.GetNetid() != vnid.Global {
			// VNID 0 has no list that would show the target leaving meanwhile.
			l.tx.Touch(namespaceKey(target))
		}
		return l.move(ns, host.GetNetid())
	})
}

// Isolate gives a namespace a VNID of its own; the one that it has, if that is
// not 0 and nobody shares it. It fails with DefaultError, ModeError,
// NotFoundError and ExhaustedError.
func (s *Store) Isolate(ctx context.Context, name string) (*tenancyv1.NetNamespace, error) {
	if name == Default {
		return nil, &DefaultError{Verb: "isolated"}
	}
	return s.change(ctx, func(l ledger) (*tenancyv1.NetNamespace, error) {
		if err := l.requireVNIDs(); err != nil {
			return nil, err
		}
		ns, err := l.require(name)
		if err != nil {
			return nil, err
		}
		alone, err := l.alone(ns)
		if err != nil {
			return nil, err
		}
		if alone {
			return l.move(ns, ns.GetNetid())
		}
		number, err := l.unused()
		if err != nil {
			return nil, err
		}
		return l.move(ns, number)
	})
}

// alone says whether a namespace has its VNID for itself.
func (l ledger) alone(ns *tenancyv1.NetNamespace) (bool, error) {
	if ns.GetNetid() == vnid.Global {
		return false, nil
	}
	list, err := l.holders(ns.GetNetid())
	return len(list) == 1, err
}

// MakeGlobal gives a namespace VNID 0. It fails with ModeError and
// NotFoundError.
func (s *Store) MakeGlobal(ctx context.Context, name string) (*tenancyv1.NetNamespace, error) {
	return s.change(ctx, func(l ledger) (*tenancyv1.NetNamespace, error) {
		if err := l.requireVNIDs(); err != nil {
			return nil, err
		}
		ns, err := l.require(name)
		if err != nil {
			return nil, err
		}
		return l.move(ns, vnid.Global)
	})
}

// change commits what decide stages, and answers the namespace that it
// answered, with its revision. It begins from all that was committed before
// the call, by any replica: "not found" and "gone already" are answers that no
// comparison of revisions would catch.
func (s *Store) change(ctx context.Context, decide func(ledger) (*tenancyv1.NetNamespace, error)) (*tenancyv1.NetNamespace, error) {
	if err := catchup.Fully(ctx, s.bucket); err != nil {
		return nil, err
	}
	var decided *tenancyv1.NetNamespace
	var sequence uint64
	for {
		var err error
		sequence, err = s.bucket.Update(ctx, func(tx *bucket.Tx) error {
			var err error
			decided, err = decide(ledger{tx: tx, numbers: s.numbers})
			return err
		})
		if err == nil {
			break
		}
		if !errors.Is(err, errBehind) || ctx.Err() != nil {
			return nil, err
		}
	}
	if decided != nil && decided.GetRevision() == 0 {
		decided.Revision = s.bucket.RevisionSince(namespaceKey(decided.GetName()), sequence)
	}
	return decided, nil
}
