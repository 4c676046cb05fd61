// Package ancestor knows what OpenShift SDN leaves on a node that is taken over from it.
//
// It owns how its agent is told to be still at work, and who the pods are that its
// plugin attached: the switch has their sandbox and address only, and the rest is what
// the container runtime noted when it called the plugin. It promises that a pod is
// answered only if the runtime's note and the switch agree about it. It must not change
// anything: what is found here, others make theirs (docs/takeover.md).
package ancestor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
)

const (
	// DefaultSocket is where OpenShift SDN's agent serves its plugin.
	DefaultSocket = "/run/openshift-sdn/cniserver/socket"
	// DefaultRuntimeCache is where libcni, and so CRI-O and containerd, keep what plugins
	// answered.
	DefaultRuntimeCache = "/var/lib/cni"

	// results is libcni's directory in its cache.
	results = "results"
	// dialTimeout bounds the question whether somebody listens. A unix socket answers at
	// once or not at all, but for a full backlog.
	dialTimeout = time.Second
)

// Node is one node, as OpenShift SDN left it.
type Node struct {
	// Socket is where its agent served its plugin.
	Socket string
	// RuntimeCache is the directory in which the container runtime keeps what plugins
	// answered.
	RuntimeCache string
}

// Running says whether OpenShift SDN's agent is at work. It looks who answers and not
// whether the socket is there: a killed agent leaves that behind.
func (n Node) Running(ctx context.Context) bool {
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, "unix", n.Socket)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// Pod answers who a sandbox of this address is: interface, network namespace, pod and
// host ports. Other fields are not filled. An error says what is not known.
func (n Node) Pod(sandbox string, address netip.Addr) (*cniv1.Attachment, error) {
	dir := filepath.Join(n.RuntimeCache, results)
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("what the container runtime noted of sandbox %s: %w", sandbox, err)
	}
	var problems []string
	for _, file := range files {
		// NETWORK-CONTAINER-INTERFACE; a meta plugin's network is named as it likes.
		if !strings.Contains(file.Name(), sandbox) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil {
			return nil, fmt.Errorf("what the container runtime noted of sandbox %s: %w", sandbox, err)
		}
		found, err := parse(data)
		switch {
		case err != nil:
			problems = append(problems, fmt.Sprintf("%s: %v", file.Name(), err))
		case found.sandbox != sandbox:
		case !slices.Contains(found.addresses, address):
			problems = append(problems, fmt.Sprintf("%s: it has %v", file.Name(), found.addresses))
		default:
			return found.attachment, nil
		}
	}
	if len(problems) == 0 {
		return nil, fmt.Errorf("the container runtime has noted nothing of sandbox %s in %s", sandbox, dir)
	}
	return nil, fmt.Errorf("the container runtime has not noted %s of sandbox %s in %s: %s", address, sandbox, dir, strings.Join(problems, "; "))
}
