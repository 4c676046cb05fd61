package store

import (
	"context"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// Kinds of keys of the firewall that others read, and of what nodes reported.
const (
	KindPolicy  = "egressnetworkpolicy"
	KindDNSName = "dnsname"
	KindMember  = "dnsmember"
)

const (
	// MaxMembers is how many names a wildcard may have.
	MaxMembers = 1000
	// MemberLife is how long a name that nobody reports stays.
	MemberLife = time.Hour
	// memberRenew is how old a report must be to be worth a write.
	memberRenew = 5 * time.Minute
)

// Policies is the firewalls.
func Policies() bucket.Table[*egressv1.EgressNetworkPolicy] {
	return bucket.NewTable[*egressv1.EgressNetworkPolicy](KindPolicy)
}

// DNSNames is what names resolve to.
func DNSNames() bucket.Table[*egressv1.DNSName] {
	return bucket.NewTable[*egressv1.DNSName](KindDNSName)
}

// Policies answers firewalls.
func (s *Store) Policies(q Query) (Page[*egressv1.EgressNetworkPolicy], error) {
	return list(s, Policies(), KindPolicy, q)
}

// DNSNames answers what names resolve to.
func (s *Store) DNSNames(q Query) (Page[*egressv1.DNSName], error) {
	return list(s, DNSNames(), KindDNSName, q)
}

// PutPolicy creates or replaces a policy, which is valid. It fails with
// NotFoundError and StaleError.
func (s *Store) PutPolicy(ctx context.Context, wish *egressv1.EgressNetworkPolicy) (*egressv1.EgressNetworkPolicy, error) {
	what := "egress network policy " + wish.GetNamespace() + "/" + wish.GetName()
	return change(ctx, s, Policies().Key(wish.GetNamespace(), wish.GetName()), func(tx *bucket.Tx) (*egressv1.EgressNetworkPolicy, error) {
		stored, exists, err := Policies().Get(tx, wish.GetNamespace(), wish.GetName())
		switch {
		case err != nil:
			return nil, err
		case exists && equal(stored, wish):
			return stored, nil
		case !exists && wish.GetRevision() != 0:
			return nil, &NotFoundError{What: what}
		}
		if err := checkRevision(what, wish.GetRevision(), stored.GetRevision()); err != nil {
			return nil, err
		}
		Policies().Put(tx, wish, wish.GetNamespace(), wish.GetName())
		return bare(wish), nil
	})
}

// DeletePolicy removes a policy. One that is not there is a success.
func (s *Store) DeletePolicy(ctx context.Context, namespace, name string) error {
	_, err := change(ctx, s, Policies().Key(namespace, name), func(tx *bucket.Tx) (*egressv1.EgressNetworkPolicy, error) {
		Policies().Delete(tx, namespace, name)
		return &egressv1.EgressNetworkPolicy{}, nil
	})
	return err
}

// ReportNames takes over names that pods looked up, under each wildcard that is
// resolved and has them. It answers how many a wildcard has.
func (s *Store) ReportNames(ctx context.Context, names []string, now time.Time) (accepted uint32, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err = s.bucket.Update(ctx, func(tx *bucket.Tx) error {
		accepted = 0
		for _, name := range names {
			if reportName(tx, name, now) {
				accepted++
			}
		}
		return nil
	})
	return accepted, err
}

// reportName stores one name, and says whether a wildcard has it.
func reportName(tx *bucket.Tx, name string, now time.Time) (accepted bool) {
	for _, rest, more := strings.Cut(name, "."); more; _, rest, more = strings.Cut(rest, ".") {
		wildcard := "*." + rest
		if _, followed := tx.Get(bucket.Key(KindDNSName, wildcard)); !followed {
			continue
		}
		key := bucket.Key(KindMember, wildcard, name)
		e, known := tx.Get(key)
		switch {
		case known:
			accepted = true
			if at, err := time.Parse(time.RFC3339, string(e.Value)); err == nil && now.Sub(at) < memberRenew {
				continue
			}
		case len(tx.List(bucket.Key(KindMember, wildcard)+".")) >= MaxMembers:
			continue
		}
		accepted = true
		tx.Put(key, []byte(now.UTC().Format(time.RFC3339)))
	}
	return accepted
}

// NameDecision is what was found out about a name.
type NameDecision struct {
	// Name is it.
	Name string
	// Object is what nodes are told; nil: nobody needs it any more.
	Object *egressv1.DNSName
	// Members, with the wildcard, are names that go.
	Gone []string
}

// CommitNames commits decisions about names, if this replica still has the
// lease.
func (l *Lease) CommitNames(ctx context.Context, decisions []NameDecision) error {
	return l.Commit(ctx, func(tx *bucket.Tx) {
		for _, d := range decisions {
			for _, member := range d.Gone {
				tx.Delete(bucket.Key(KindMember, d.Name, member))
			}
			if d.Object == nil {
				DNSNames().Delete(tx, d.Name)
				continue
			}
			stored, exists, err := DNSNames().Get(tx, d.Name)
			if err == nil && exists && proto.Equal(bare(stored), bare(d.Object)) {
				continue
			}
			DNSNames().Put(tx, d.Object, d.Name)
		}
	})
}
