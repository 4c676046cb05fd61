// Package apiserver is the way from a lab to a Kubernetes API server outside of it.
//
// It owns a relay, by which an address of the lab leads to where the API server is on the
// machine's own network, and kubeconfigs that say so. It promises that users stay who they
// are and that TLS goes from end to end: the certificate is checked for the name that
// the original kubeconfig has. It must not speak to the API server itself.
package apiserver

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Kubeconfig is a user of an API server.
type Kubeconfig struct {
	// Server is where the API server is.
	Server netip.AddrPort

	config *clientcmdapi.Config // its present context alone
}

// Read reads a kubeconfig and the files that it names. The error has everything by which
// nobody in a lab could use it.
func Read(path string) (*Kubeconfig, error) {
	config, err := clientcmd.LoadFromFile(path)
	if err == nil {
		err = clientcmd.ResolveLocalPaths(config)
	}
	if err == nil {
		err = clientcmdapi.MinifyConfig(config)
	}
	if err == nil {
		err = clientcmdapi.FlattenConfig(config)
	}
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	k := &Kubeconfig{config: config}
	problems := k.checkUser()
	server, err := k.where()
	k.Server = server
	if err = errors.Join(append(problems, err)...); err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return k, nil
}

// cluster is the only one; MinifyConfig has left no other.
func (k *Kubeconfig) cluster() *clientcmdapi.Cluster {
	return k.config.Clusters[k.config.Contexts[k.config.CurrentContext].Cluster]
}

// where reads the server's address.
func (k *Kubeconfig) where() (netip.AddrPort, error) {
	server, err := url.Parse(k.cluster().Server)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("server: %w", err)
	}
	if server.Scheme != "https" {
		return netip.AddrPort{}, fmt.Errorf("server: %q does not begin with https://", k.cluster().Server)
	}
	if k.cluster().ProxyURL != "" {
		return netip.AddrPort{}, errors.New("proxy-url: a lab knows no proxies")
	}
	address, err := netip.ParseAddrPort(net.JoinHostPort(server.Hostname(), cmp.Or(server.Port(), "443")))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("server: %q is not an IP address: nobody in a lab looks names up; give the name as tls-server-name", server.Hostname())
	}
	return address, nil
}

// checkUser refuses what needs a program or a file of the machine.
func (k *Kubeconfig) checkUser() (problems []error) {
	user := k.config.AuthInfos[k.config.Contexts[k.config.CurrentContext].AuthInfo]
	if user == nil {
		return []error{errors.New("its context has no user")}
	}
	if user.Exec != nil {
		problems = append(problems, errors.New("exec: a user in a lab has a certificate or a token, and starts no program for it"))
	}
	if user.AuthProvider != nil {
		problems = append(problems, errors.New("auth-provider: a user in a lab has a certificate or a token"))
	}
	if user.TokenFile != "" {
		problems = append(problems, errors.New("tokenFile: only token: a file that changes does not get into a lab"))
	}
	return problems
}

// Write writes the same user, whose API server is at another address: a relay's.
func (k *Kubeconfig) Write(path string, relay netip.AddrPort) error {
	config := k.config.DeepCopy()
	there := (&Kubeconfig{config: config}).cluster()
	server, err := url.Parse(there.Server)
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	there.TLSServerName = cmp.Or(there.TLSServerName, server.Hostname())
	server.Host = relay.String()
	there.Server = server.String()
	text, err := clientcmd.Write(*config)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// ReadAll reads kubeconfigs by who uses them. All must be for one API server.
func ReadAll(paths map[string]string) (map[string]*Kubeconfig, error) {
	all, read := map[string]*Kubeconfig{}, map[string]*Kubeconfig{}
	var first string
	var problems []error
	for _, user := range slices.Sorted(maps.Keys(paths)) {
		path := paths[user]
		k, known := read[path]
		if !known {
			var err error
			if k, err = Read(path); err != nil {
				problems = append(problems, err)
			}
			read[path] = k
		}
		if k == nil {
			continue
		}
		all[user] = k
		if first == "" {
			first = path
		}
		if was := read[first].Server; !known && k.Server != was {
			problems = append(problems, fmt.Errorf("kubeconfigs %s and %s have different API servers, %s and %s", first, path, was, k.Server))
		}
	}
	return all, errors.Join(problems...)
}
