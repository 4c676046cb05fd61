package cni

import (
	"strconv"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
)

// environment is what CNI_ARGS says.
type environment struct {
	podNamespace string
	podName      string
	podUID       string
	ip           string
	ofport       uint32
}

// parseArgs reads CNI_ARGS, "KEY=VALUE;KEY=VALUE". A key that it does not know is
// refused unless IgnoreUnknown is set, as the convention goes. The error (code 4)
// names every problem.
func parseArgs(args string) (environment, error) {
	var (
		e             environment
		wrong         problems
		unknown       []string
		ignoreUnknown bool
	)
	for pair := range strings.SplitSeq(args, ";") {
		if pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			wrong.addf("CNI_ARGS: %q is not KEY=VALUE", pair)
			continue
		}
		switch key {
		case "K8S_POD_NAMESPACE":
			e.podNamespace = value
		case "K8S_POD_NAME":
			e.podName = value
		case "IP":
			a, err := wishedAddress(value)
			if err != nil {
				wrong.addf("CNI_ARGS: IP: %q is not an IP address", value)
				continue
			}
			e.ip = a.String()
		case "DAMASK_OFPORT":
			n, err := strconv.ParseUint(value, 10, 16)
			if err != nil || n == 0 {
				wrong.addf("CNI_ARGS: DAMASK_OFPORT: %q is not a port number", value)
				continue
			}
			e.ofport = uint32(n)
		case "IgnoreUnknown":
			var flag types.UnmarshallableBool
			if err := flag.UnmarshalText([]byte(value)); err != nil {
				wrong.addf("CNI_ARGS: IgnoreUnknown: %q is not true, false, 1 or 0", value)
			}
			ignoreUnknown = bool(flag)
		case "K8S_POD_UID":
			e.podUID = value
		case "K8S_POD_INFRA_CONTAINER_ID":
			// The sandbox is CNI_CONTAINERID; runtimes send this besides.
		default:
			unknown = append(unknown, key)
		}
	}
	if len(unknown) > 0 && !ignoreUnknown {
		wrong.addf("CNI_ARGS: unknown: %s (set IgnoreUnknown=1 to tolerate)", strings.Join(unknown, ", "))
	}
	return e, wrong.err(types.ErrInvalidEnvironmentVariables)
}

// addRequest puts together what the runtime said in three places.
func addRequest(args *skel.CmdArgs, c config, e environment) (*cniv1.AddRequest, error) {
	var wrong problems
	if e.podNamespace == "" {
		wrong.addf("CNI_ARGS: K8S_POD_NAMESPACE is required")
	}
	if e.podName == "" {
		wrong.addf("CNI_ARGS: K8S_POD_NAME is required")
	}
	if err := wrong.err(types.ErrInvalidEnvironmentVariables); err != nil {
		return nil, err
	}
	request := &cniv1.AddRequest{
		ContainerId: args.ContainerID, Netns: args.Netns, Ifname: args.IfName,
		PodNamespace: e.podNamespace, PodName: e.podName, PodUid: e.podUID,
		RequestedIps: c.ips, RequestedOfport: e.ofport,
		Labels: c.labels, Ports: c.ports, HostPorts: c.hostPorts, Bandwidth: c.bandwidth, Annotations: c.annotations,
	}
	if len(c.ips) == 0 && e.ip != "" {
		request.RequestedIps = []string{e.ip}
	}
	return request, nil
}
