package attach

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/damask-sdn/damask/internal/rpcerr"
	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/egressrouter"
	"github.com/damask-sdn/damask/services/nodeagent/lease"
)

const (
	longestIfname    = 15   // IFNAMSIZ without the final zero
	longestContainer = 255  // runtimes use 64
	longestUID       = 128  // the registry's limit; Kubernetes' have 36
	longestPortName  = 15   // RFC 6335
	mostPorts        = 1000 // of containers, and of the host
)

var (
	containerSyntax = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`) // of the CNI specification
	labelSyntax     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	uidSyntax       = regexp.MustCompile(`^[!-~]*$`)
	valueSyntax     = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$`)
)

// faults collects what is wrong with a request, apart by whose fault it is: the
// environment variables are the runtime's, the configuration is an operator's.
type faults struct {
	environment []string
	config      []string
}

// err names every fault. CNI has one code for one error: the environment's when
// both are wrong, because nothing can work before that is right.
func (f *faults) err() error {
	all := append(slices.Clone(f.environment), f.config...)
	if len(all) == 0 {
		return nil
	}
	reason := ReasonInvalidConfig
	if len(f.environment) > 0 {
		reason = ReasonInvalidEnvironment
	}
	return rpcerr.New(codes.InvalidArgument, Domain, reason, strings.Join(all, "; "), nil)
}

func (f *faults) key(container, ifname string) {
	if len(container) > longestContainer || !containerSyntax.MatchString(container) {
		f.environment = append(f.environment, fmt.Sprintf("container_id: %q is not a CNI container id", container))
	}
	if ifname == "" || len(ifname) > longestIfname || strings.ContainsAny(ifname, "/: \t\n\x00") || ifname == "." || ifname == ".." {
		f.environment = append(f.environment, fmt.Sprintf("ifname: %q is not an interface name of 1 to %d characters", ifname, longestIfname))
	}
}

func (f *faults) netns(path string) {
	if !filepath.IsAbs(path) {
		f.environment = append(f.environment, fmt.Sprintf("netns: %q is not an absolute path", path))
	}
}

// wishOf checks an AddRequest and answers its wish.
func wishOf(r *cniv1.AddRequest) (lease.Wish, error) {
	var (
		f    faults
		wish lease.Wish
	)
	f.key(r.GetContainerId(), r.GetIfname())
	f.netns(r.GetNetns())
	if len(r.GetPodNamespace()) > 63 || !labelSyntax.MatchString(r.GetPodNamespace()) {
		f.environment = append(f.environment, fmt.Sprintf("pod_namespace: %q is not a namespace name", r.GetPodNamespace()))
	}
	if !isSubdomain(r.GetPodName()) {
		f.environment = append(f.environment, fmt.Sprintf("pod_name: %q is not a pod name", r.GetPodName()))
	}
	if uid := r.GetPodUid(); len(uid) > longestUID || !uidSyntax.MatchString(uid) {
		f.environment = append(f.environment, fmt.Sprintf("pod_uid: %q is not at most %d printable characters", uid, longestUID))
	}
	if n := len(r.GetRequestedIps()); n > 1 {
		f.config = append(f.config, fmt.Sprintf("requested_ips: %d addresses: at most one can be given", n))
	} else if n == 1 {
		a, err := netip.ParseAddr(r.GetRequestedIps()[0])
		if err != nil || !a.Is4() {
			f.config = append(f.config, fmt.Sprintf("requested_ips: %q is not an IPv4 address", r.GetRequestedIps()[0]))
		}
		wish.Address = a
	}
	wish.OFPort = r.GetRequestedOfport()
	if wish.OFPort != 0 && (wish.OFPort < lease.FirstPort || wish.OFPort > lease.LastPort) {
		f.config = append(f.config, fmt.Sprintf("requested_ofport: %d is not %d to %d", wish.OFPort, lease.FirstPort, lease.LastPort))
	}
	f.labels(r.GetLabels())
	f.ports(r.GetPorts())
	f.hostPorts(r.GetHostPorts())
	f.bandwidth(r.GetBandwidth())
	if _, _, err := egressrouter.Parse(r.GetAnnotations()); err != nil {
		f.config = append(f.config, "annotations: "+err.Error())
	}
	return wish, f.err()
}

// labels checks Kubernetes syntax: what is stored here is reported to services
// that would refuse it, when nobody waits for an answer any more.
func (f *faults) labels(labels map[string]string) {
	keys := make([]string, 0, len(labels))
	for key := range labels {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		name := key
		if prefix, rest, ok := strings.Cut(key, "/"); ok {
			name = rest
			if !isSubdomain(prefix) {
				f.config = append(f.config, fmt.Sprintf("labels: key %q: the prefix is not a domain name", key))
			}
		}
		if len(name) > 63 || !valueSyntax.MatchString(name) {
			f.config = append(f.config, fmt.Sprintf("labels: %q is not a label key", key))
		}
		if value := labels[key]; value != "" && (len(value) > 63 || !valueSyntax.MatchString(value)) {
			f.config = append(f.config, fmt.Sprintf("labels: %q: %q is not a label value", key, value))
		}
	}
}

// ports checks Kubernetes syntax, for the same reason. A name may be there twice:
// Kubernetes lets two containers use the same.
func (f *faults) ports(ports []*cniv1.ContainerPort) {
	if len(ports) > mostPorts {
		f.config = append(f.config, fmt.Sprintf("ports: %d ports: at most %d can be given", len(ports), mostPorts))
		return
	}
	for i, p := range ports {
		if name := p.GetName(); name != "" && !isPortName(name) {
			f.config = append(f.config, fmt.Sprintf("ports[%d].name: %q is not a port name: at most %d lower case letters, digits and single '-', with a letter", i, name, longestPortName))
		}
		if n := p.GetContainerPort(); n < 1 || n > 65535 {
			f.config = append(f.config, fmt.Sprintf("ports[%d].container_port: %d is not 1 to 65535", i, n))
		}
		if _, known := cniv1.Protocol_name[int32(p.GetProtocol())]; !known {
			f.config = append(f.config, fmt.Sprintf("ports[%d].protocol: %d is not known", i, p.GetProtocol()))
		}
	}
}

func isPortName(s string) bool {
	return len(s) <= longestPortName && labelSyntax.MatchString(s) && !strings.Contains(s, "--") && strings.Trim(s, "0123456789-") != ""
}

// isSubdomain says whether s is a DNS-1123 subdomain, as pod names are.
func isSubdomain(s string) bool {
	if len(s) > 253 {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if !labelSyntax.MatchString(part) {
			return false
		}
	}
	return true
}
