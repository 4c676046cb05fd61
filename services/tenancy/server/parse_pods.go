package server

import (
	"fmt"
	"net/netip"

	"github.com/damask-sdn/damask/internal/rpcerr"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/kubesyntax"
)

// Limits of pods; the proto files state them, save that of ids: runtimes use 64
// characters.
const (
	maxSyncPods  = 10_000
	maxPodPorts  = 1000
	maxSandboxID = 128
	maxUID       = 128
	maxPort      = 65535
)

// parsePods reads the pods of a node's report.
func parsePods(v *rpcerr.Violations, node string, pods []*tenancyv1.Pod) {
	if len(pods) > maxSyncPods {
		v.Addf("pods", "%d pods, at most %d are allowed", len(pods), maxSyncPods)
		return
	}
	type key struct{ namespace, name string }
	first := make(map[key]int, len(pods))
	for i, pod := range pods {
		field := fmt.Sprintf("pods[%d]", i)
		checkPod(v, field, pod)
		if pod.GetNode() != node && pod.GetNode() != "" {
			v.Addf(field+".node", "%q is not the reporting node %q", pod.GetNode(), node)
		}
		k := key{pod.GetNamespace(), pod.GetName()}
		if at, twice := first[k]; twice {
			v.Addf(field, "%s/%s is pods[%d] already", k.namespace, k.name, at)
			continue
		}
		first[k] = i
	}
}

func checkPod(v *rpcerr.Violations, field string, pod *tenancyv1.Pod) {
	if pod == nil {
		v.Addf(field, "is required")
		return
	}
	checkNamespace(v, field+".namespace", pod.GetNamespace())
	checkSubdomain(v, field+".name", pod.GetName())
	checkSubdomain(v, field+".node", pod.GetNode())
	checkSandbox(v, field+".sandbox_id", pod.GetSandboxId())
	checkUID(v, field+".uid", pod.GetUid())
	checkLabels(v, field+".labels", pod.GetLabels())
	if len(pod.GetIps()) == 0 {
		v.Addf(field+".ips", "at least one address is required")
	}
	for i, ip := range pod.GetIps() {
		addr, err := netip.ParseAddr(ip)
		if err != nil || addr.Zone() != "" || addr.String() != ip {
			v.Addf(fmt.Sprintf("%s.ips[%d]", field, i), "%q is not an IP address in canonical form", ip)
		}
	}
	checkContainerPorts(v, field+".ports", pod.GetPorts())
	if problem := kubesyntax.LabelValue(pod.GetZone()); problem != "" {
		v.Addf(field+".zone", "%s", problem)
	}
	if t := pod.GetAttachTime(); t != nil && !t.IsValid() {
		v.Addf(field+".attach_time", "is not a point in time")
	}
}

// checkContainerPorts does not mind a name that is there twice: Kubernetes lets
// two containers use the same.
func checkContainerPorts(v *rpcerr.Violations, field string, ports []*tenancyv1.ContainerPort) {
	if len(ports) > maxPodPorts {
		v.Addf(field, "%d ports, at most %d are allowed", len(ports), maxPodPorts)
		return
	}
	for i, p := range ports {
		at := fmt.Sprintf("%s[%d]", field, i)
		if p.GetName() != "" {
			if problem := kubesyntax.PortName(p.GetName()); problem != "" {
				v.Addf(at+".name", "%s", problem)
			}
		}
		if n := p.GetContainerPort(); n < 1 || n > maxPort {
			v.Addf(at+".container_port", "%d is not within 1 to %d", n, maxPort)
		}
		if _, known := tenancyv1.Protocol_name[int32(p.GetProtocol())]; !known {
			v.Addf(at+".protocol", "%d is not known", p.GetProtocol())
		}
	}
}

// parseConditions reads how a pod is said to be.
func parseConditions(r *tenancyv1.SetPodConditionsRequest) error {
	var v rpcerr.Violations
	checkNamespace(&v, "namespace", r.GetNamespace())
	checkSubdomain(&v, "name", r.GetName())
	switch c := r.GetConditions(); {
	case c == nil:
		v.Addf("conditions", "is required")
	case c.Ready == nil && c.Terminating == nil && c.Completed == nil:
		v.Addf("conditions", "at least one of ready, terminating and completed is required")
	}
	if r.GetSandboxId() != "" {
		checkSandbox(&v, "sandbox_id", r.GetSandboxId())
	}
	return v.Err(Domain)
}

func checkSandbox(v *rpcerr.Violations, field, id string) {
	switch {
	case id == "":
		v.Addf(field, "is required")
	case len(id) > maxSandboxID:
		v.Addf(field, "has %d characters, at most %d are allowed", len(id), maxSandboxID)
	case !printable(id):
		v.Addf(field, "%q has characters other than printable ASCII", id)
	}
}

// checkUID lets it be empty: not every runtime says it.
func checkUID(v *rpcerr.Violations, field, uid string) {
	switch {
	case len(uid) > maxUID:
		v.Addf(field, "has %d characters, at most %d are allowed", len(uid), maxUID)
	case !printable(uid):
		v.Addf(field, "%q has characters other than printable ASCII", uid)
	}
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
