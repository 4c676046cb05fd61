package intent

import (
	"net/netip"

	"github.com/damask-sdn/damask/internal/policy"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/flowsync"
	"github.com/damask-sdn/damask/services/nodeagent/policyflow"
)

// decisions is what of policies' decisions is logged, and whose flows they are.
type decisions struct {
	followed bool
	wanted   map[string]policyflow.Logging // by namespace
	owners   map[uint64]string             // of flows, by their cookie, as of version
	version  uint64                        // counts what can change owners
	indexed  uint64
}

// FollowDecisions says that somebody logs decisions, and that the switch bounds the
// copies that tell of them. Before, and without, no flow makes any. It is called
// before the switch is compared first.
func (s *State) FollowDecisions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.decisions.followed = true
	for namespace, l := range s.decisions.wanted {
		s.policies.book.SetLogging(namespace, l)
	}
}

// setLogging takes what a namespace wants logged, and says whether that is new. The caller
// holds the lock.
func (s *State) setLogging(nn *tenancyv1.NetNamespace) bool {
	l := policyflow.Logging{Denied: nn.GetPolicyLogDenied(), Allowed: nn.GetPolicyLogAllowed()}
	if s.decisions.wanted[nn.GetName()] == l {
		return false
	}
	if s.decisions.wanted[nn.GetName()] = l; l == (policyflow.Logging{}) {
		delete(s.decisions.wanted, nn.GetName())
	}
	if s.decisions.followed {
		s.policies.book.SetLogging(nn.GetName(), l)
	}
	return s.decisions.followed
}

// Decision is what policies have decided about a packet.
type Decision struct {
	policyflow.Decision
	// Namespace and Pod are the pod of this node that the policies are of.
	Namespace, Pod string
}

// DecisionOf answers what a flow has decided about a packet, by the flow's cookie and
// table; false if that is not to be logged, or not known any more.
func (s *State) DecisionOf(cookie uint64, table uint8, src, dst netip.Addr) (Decision, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.decisions.owners == nil || s.decisions.indexed != s.decisions.version {
		s.decisions.owners = map[uint64]string{}
		for _, owner := range s.policies.book.Deciding() {
			s.decisions.owners[flowsync.Cookie(owner)] = owner
		}
		s.decisions.indexed = s.decisions.version
	}
	decision, decides := s.policies.book.DecisionOf(s.decisions.owners[cookie], table)
	if !decides {
		return Decision{}, false
	}
	own := src
	if decision.Direction == policy.Ingress {
		own = dst
	}
	for _, pod := range s.pods {
		if pod.IP == own {
			return Decision{decision, pod.Namespace, pod.Name}, s.policies.book.Logs(pod.Namespace, decision)
		}
	}
	return Decision{}, false
}
