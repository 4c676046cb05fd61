package resolution

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/internal/policy/policywire"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/listing"
)

// markerKind is the kind of the one Resolution, and markerName its name.
const (
	markerKind = "resolution"
	markerName = "cluster"
)

func policies() bucket.Table[*tenancyv1.ResolvedPolicy] {
	return bucket.NewTable[*tenancyv1.ResolvedPolicy](policywire.KindPolicy)
}

func podPolicies() bucket.Table[*tenancyv1.PodPolicies] {
	return bucket.NewTable[*tenancyv1.PodPolicies](policywire.KindPodPolicies)
}

func marker() bucket.Table[*tenancyv1.Resolution] {
	return bucket.NewTable[*tenancyv1.Resolution](markerKind)
}

// Keys of the objects.
func policyKey(k policy.Key) string { return policies().Key(policywire.PolicyName(k)) }

func groupPrefix(id policy.GroupID) string {
	return bucket.Key(policywire.KindAddressGroup, string(id)) + "."
}

func shardKey(id policy.GroupID, shard int) string {
	return bucket.Key(policywire.KindAddressGroup, string(id), fmt.Sprint(shard))
}

func podKey(node, namespace, name string) string { return podPolicies().Key(node, namespace, name) }

// ListPolicies answers a page of policies: all, or those with these names.
func ListPolicies(s bucket.Snapshot, names []string, after string, size int) (listing.Page[*tenancyv1.ResolvedPolicy], error) {
	q := listing.Query{After: after, Size: size}
	for _, name := range names {
		q.Keys = append(q.Keys, policies().Key(name))
	}
	if len(names) == 0 {
		q.Prefixes = []string{policywire.KindPolicy + "."}
	}
	return listing.Read(s, q, func(e bucket.Entry) (*tenancyv1.ResolvedPolicy, error) {
		p := &tenancyv1.ResolvedPolicy{}
		err := decode(e, p)
		p.Revision = e.Revision
		return p, err
	})
}

// ListShards answers a page of shards: of all groups, or of these.
func ListShards(s bucket.Snapshot, groups []string, after string, size int) (listing.Page[*tenancyv1.AddressGroupShard], error) {
	q := listing.Query{After: after, Size: size}
	for _, id := range groups {
		q.Prefixes = append(q.Prefixes, groupPrefix(policy.GroupID(id)))
	}
	if len(groups) == 0 {
		q.Prefixes = []string{policywire.KindAddressGroup + "."}
	}
	return listing.Read(s, q, decodeShard)
}

// ListPods answers a page of the policies of a node's pods.
func ListPods(s bucket.Snapshot, node, after string, size int) (listing.Page[*tenancyv1.PodPolicies], error) {
	q := listing.Query{Prefixes: []string{podPolicies().Key(node) + "."}, After: after, Size: size}
	return listing.Read(s, q, func(e bucket.Entry) (*tenancyv1.PodPolicies, error) {
		p := &tenancyv1.PodPolicies{}
		err := decode(e, p)
		p.Revision = e.Revision
		return p, err
	})
}

func decodeShard(e bucket.Entry) (*tenancyv1.AddressGroupShard, error) {
	m := &tenancyv1.AddressGroupShard{}
	err := decode(e, m)
	m.Revision = e.Revision
	return m, err
}

func decode(e bucket.Entry, into proto.Message) error {
	if err := proto.Unmarshal(e.Value, into); err != nil {
		return fmt.Errorf("decode %s: %w", e.Key, err)
	}
	return nil
}
