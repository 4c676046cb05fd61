// Command damask-node-certificate gets the certificate of a node's agent from the cluster,
// and keeps it good. The private key never leaves the node.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/damask-sdn/damask/cmd/internal/certificates"
	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/internal/identity"
)

func main() {
	n := certificates.Node{Now: time.Now}
	flag.StringVar(&n.Name, "node", os.Getenv("DAMASK_NODE"), "`name` of the node; default: what DAMASK_NODE says")
	flag.StringVar(&n.TrustDomain, "trust-domain", identity.DefaultTrustDomain, "trust `domain` of the cluster")
	flag.StringVar(&n.Dir, "dir", "/etc/damask/tls", "`directory` of tls.crt, tls.key and ca.crt")
	flag.StringVar(&n.Bundle, "ca", "/etc/damask/ca/ca.crt", "`file` with whom to trust")
	flag.DurationVar(&n.Lifetime, "lifetime", 90*24*time.Hour, "how long a certificate is asked for")
	kubeconfig := flag.String("kubeconfig", "", "`file` that says where the API server is; without it the pod's ServiceAccount does")
	once := flag.Bool("once", false, "end as soon as the node has a certificate that is good now")
	version := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *version {
		fmt.Println("damask-node-certificate", daemon.Version())
		return
	}
	n.Client = func() (kubernetes.Interface, error) {
		cfg, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
		if err != nil {
			return nil, err
		}
		cfg.UserAgent = "damask-node-certificate"
		return kubernetes.NewForConfig(cfg)
	}
	if err := run(&n, *once); err != nil {
		fmt.Fprintln(os.Stderr, "damask-node-certificate:", err)
		os.Exit(daemon.ExitError)
	}
}

func run(n *certificates.Node, once bool) error {
	if _, err := identity.Node(n.Name).URI(n.TrustDomain); err != nil {
		return fmt.Errorf("-node: %w", err)
	}
	n.Log = hclog.New(&hclog.LoggerOptions{Name: "damask-node-certificate", Output: os.Stderr, JSONFormat: true})
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if once {
		return n.Await(ctx)
	}
	return n.Run(ctx)
}
