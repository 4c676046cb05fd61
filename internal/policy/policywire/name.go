package policywire

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/damask-sdn/damask/internal/policy"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// Kinds under which followers find the objects.
const (
	KindPolicy       = "policy"       // ResolvedPolicy, by PolicyName; not nested.
	KindAddressGroup = "addressgroup" // AddressGroupShard, by group and shard; nested.
	KindPodPolicies  = "podpolicies"  // PodPolicies, by node, namespace and name; nested.
)

// PolicyName is a policy's name on the change bus: "NetworkPolicy/shop/allow-web",
// or "AdminNetworkPolicy/no-telnet".
func PolicyName(k policy.Key) string {
	if k.Namespace == "" {
		return k.Kind + "/" + k.Name
	}
	return k.Kind + "/" + k.Namespace + "/" + k.Name
}

// ParsePolicyName undoes PolicyName.
func ParsePolicyName(name string) (policy.Key, error) {
	parts := strings.Split(name, "/")
	for _, part := range parts {
		if part == "" {
			return policy.Key{}, fmt.Errorf("read policy name %q: empty part", name)
		}
	}
	switch len(parts) {
	case 2:
		return policy.Key{Kind: parts[0], Name: parts[1]}, nil
	case 3:
		return policy.Key{Kind: parts[0], Namespace: parts[1], Name: parts[2]}, nil
	}
	return policy.Key{}, fmt.Errorf("read policy name %q: want KIND/NAME or KIND/NAMESPACE/NAME", name)
}

// NameOfPolicy is the follower's name of a policy.
func NameOfPolicy(p *tenancyv1.ResolvedPolicy) string { return PolicyName(KeyOf(p.GetKey())) }

// NameOfShard is the follower's name of a shard.
func NameOfShard(s *tenancyv1.AddressGroupShard) string {
	return s.GetGroup() + "/" + strconv.FormatUint(uint64(s.GetShard()), 10)
}

// ParseShardName undoes NameOfShard: a shard that is gone has no more than its
// name.
func ParseShardName(name string) (policy.GroupID, uint32, error) {
	id, number, found := strings.Cut(name, "/")
	shard, err := strconv.ParseUint(number, 10, 32)
	if !found || err != nil || id == "" {
		return "", 0, fmt.Errorf("read name %q of an address group's shard: want GROUP/NUMBER", name)
	}
	return policy.GroupID(id), uint32(shard), nil
}

// NameOfPod is the follower's name of a pod's policies.
func NameOfPod(p *tenancyv1.PodPolicies) string {
	return p.GetNode() + "/" + p.GetNamespace() + "/" + p.GetName()
}

// KeyOf reads a key. It may be of no policy: see the checks of who needs one.
func KeyOf(k *tenancyv1.PolicyKey) policy.Key {
	return policy.Key{Kind: k.GetKind(), Namespace: k.GetNamespace(), Name: k.GetName()}
}

// Key writes a key.
func Key(k policy.Key) *tenancyv1.PolicyKey {
	return &tenancyv1.PolicyKey{Kind: k.Kind, Namespace: k.Namespace, Name: k.Name}
}
