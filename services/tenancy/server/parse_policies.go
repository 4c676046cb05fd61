package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/internal/policy/policywire"
	"github.com/damask-sdn/damask/internal/rpcerr"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/explain"
	"github.com/damask-sdn/damask/services/tenancy/policyspec"
)

// policyKinds are the kinds of policies, NetworkPolicy first, which alone has a
// namespace.
var policyKinds = []string{
	policyspec.KindNetworkPolicy, policyspec.KindAdminPolicy, policyspec.KindBaselinePolicy, policyspec.KindClusterPolicy,
}

// parsePolicyKey reads the one policy that a request names.
func parsePolicyKey(k *tenancyv1.PolicyKey) (policy.Key, error) {
	var v rpcerr.Violations
	checkPolicyKey(&v, "key.", policywire.KeyOf(k))
	return policywire.KeyOf(k), v.Err(Domain)
}

func checkPolicyKey(v *rpcerr.Violations, at string, k policy.Key) {
	switch {
	case !slices.Contains(policyKinds, k.Kind):
		v.Addf(at+"kind", "%q is not one of %s", k.Kind, strings.Join(policyKinds, ", "))
	case k.Kind == policyspec.KindNetworkPolicy:
		checkNamespace(v, at+"namespace", k.Namespace)
	case k.Namespace != "":
		v.Addf(at+"namespace", "must be empty: %s is of the whole cluster", k.Kind)
	}
	checkSubdomain(v, at+"name", k.Name)
}

func parsePolicyPage(r *tenancyv1.ListNetworkPoliciesRequest) (page, error) {
	var v rpcerr.Violations
	p := parsePage(&v, r.GetPageSize(), r.GetPageToken())
	if r.GetNamespace() != "" {
		checkNamespace(&v, "namespace", r.GetNamespace())
	}
	return p, v.Err(Domain)
}

// parseConnection reads a connection that is to be explained.
func parseConnection(r *tenancyv1.ExplainConnectionRequest) (explain.Question, error) {
	var v rpcerr.Violations
	q := explain.Question{From: parseEnd(&v, "from", r.GetFrom()), To: parseEnd(&v, "to", r.GetTo()), Port: uint16(r.GetPort())} //nolint:gosec // checked below
	switch r.GetProtocol() {
	case tenancyv1.Protocol_PROTOCOL_UNSPECIFIED, tenancyv1.Protocol_PROTOCOL_TCP:
		q.Protocol = policy.TCP
	case tenancyv1.Protocol_PROTOCOL_UDP:
		q.Protocol = policy.UDP
	case tenancyv1.Protocol_PROTOCOL_SCTP:
		q.Protocol = policy.SCTP
	default:
		v.Addf("protocol", "%d is not known", r.GetProtocol())
	}
	if n := r.GetPort(); n < 1 || n > maxPort {
		v.Addf("port", "%d is not within 1 to %d", n, maxPort)
	}
	return q, v.Err(Domain)
}

func parseEnd(v *rpcerr.Violations, field string, e *tenancyv1.ConnectionEnd) explain.End {
	switch {
	case e.GetIp() == "" && e.GetName() == "":
		v.Addf(field, "a pod or an address is required")
	case e.GetIp() == "":
		checkNamespace(v, field+".namespace", e.GetNamespace())
		checkSubdomain(v, field+".name", e.GetName())
	case e.GetName() != "" || e.GetNamespace() != "":
		v.Addf(field, "must be a pod or an address, not both")
	default:
		a, err := netip.ParseAddr(e.GetIp())
		if err != nil || a.Zone() != "" {
			v.Addf(field+".ip", "%q is not an IP address", e.GetIp())
		}
		return explain.End{IP: a.Unmap()}
	}
	return explain.End{Namespace: e.GetNamespace(), Name: e.GetName()}
}

// parseResolvedPage reads which policies a follower asks for.
func parseResolvedPage(r *tenancyv1.ListResolvedPoliciesRequest) (page, error) {
	var v rpcerr.Violations
	p := parsePage(&v, r.GetPageSize(), r.GetPageToken())
	if len(r.GetNames()) > maxNames {
		v.Addf("names", "%d names, at most %d are allowed", len(r.GetNames()), maxNames)
		return p, v.Err(Domain)
	}
	for i, name := range r.GetNames() {
		key, err := policywire.ParsePolicyName(name)
		if err != nil {
			v.Addf(fmt.Sprintf("names[%d]", i), "%q is not KIND/NAME or KIND/NAMESPACE/NAME", name)
			continue
		}
		checkPolicyKey(&v, fmt.Sprintf("names[%d].", i), key)
	}
	return p, v.Err(Domain)
}

// parseShardPage reads which groups a follower asks for.
func parseShardPage(r *tenancyv1.ListAddressGroupShardsRequest) (page, error) {
	var v rpcerr.Violations
	p := parsePage(&v, r.GetPageSize(), r.GetPageToken())
	if len(r.GetGroups()) > maxNames {
		v.Addf("groups", "%d groups, at most %d are allowed", len(r.GetGroups()), maxNames)
		return p, v.Err(Domain)
	}
	for i, id := range r.GetGroups() {
		if id == "" || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789") != "" || len(id) > maxGroupID {
			v.Addf(fmt.Sprintf("groups[%d]", i), "%q is not lower case letters and digits", id)
		}
	}
	return p, v.Err(Domain)
}

// maxGroupID is longer than any id is.
const maxGroupID = 64

func parsePodPoliciesPage(r *tenancyv1.ListPodPoliciesRequest) (page, error) {
	var v rpcerr.Violations
	p := parsePage(&v, r.GetPageSize(), r.GetPageToken())
	checkSubdomain(&v, "node", r.GetNode())
	return p, v.Err(Domain)
}

// waited answers the status of a wait that ended without what was waited for.
func waited(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) {
		return status.Error(codes.DeadlineExceeded, "it is not resolved yet")
	}
	return err
}
