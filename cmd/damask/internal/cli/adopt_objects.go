package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/damask-sdn/damask/cmd/damask/internal/adopt"
	"github.com/damask-sdn/damask/cmd/damask/internal/openshift"
)

// objectsTime is how long reading all objects may take: ten thousand of each kind are some
// dozens of pages.
const objectsTime = 2 * time.Minute

// objectSource is where objects come from: files, or an API server.
type objectSource struct {
	files      []string
	kubeconfig openshift.Kubeconfig
}

func (s *objectSource) addFlags(command *cobra.Command) {
	command.Flags().StringArrayVarP(&s.files, "filename", "f", nil, `a file of objects, in yaml or json, instead of the API server; "-" is the standard input`)
	addKubeconfigFlags(command, &s.kubeconfig)
	for _, flag := range []string{"kubeconfig", "context"} {
		command.MarkFlagsMutuallyExclusive("filename", flag)
	}
}

func addKubeconfigFlags(command *cobra.Command, k *openshift.Kubeconfig) {
	flags := command.Flags()
	flags.StringVar(&k.File, "kubeconfig", "", "the kubeconfig of the cluster (default what kubectl takes: KUBECONFIG, ~/.kube/config)")
	flags.StringVar(&k.Context, "context", "", "the context in the kubeconfig (default its present one)")
}

// read answers the objects.
func (s *objectSource) read(ctx context.Context, command *cobra.Command) (adopt.Cluster, error) {
	if len(s.files) > 0 {
		return readFiles(s.files, command.InOrStdin())
	}
	client, err := openshift.Open(s.kubeconfig)
	if err != nil {
		return adopt.Cluster{}, fmt.Errorf("%w; or name files of objects by -f", err)
	}
	return readServer(ctx, client, command.ErrOrStderr())
}

// readServer reads what an API server has, and says if that is not of one moment.
func readServer(ctx context.Context, client *openshift.Client, warnings io.Writer) (adopt.Cluster, error) {
	cluster, later, err := client.Read(ctx)
	if len(later) > 0 {
		fmt.Fprintf(warnings, "damask: read a moment after the others, as the API server keeps them elsewhere: %s\n", strings.Join(later, ", "))
	}
	return cluster, err
}

// readFiles reads all files as one cluster.
func readFiles(files []string, stdin io.Reader) (adopt.Cluster, error) {
	var cluster adopt.Cluster
	for _, name := range files {
		in, end := stdin, func() error { return nil }
		if name != "-" {
			file, err := os.Open(name)
			if err != nil {
				return cluster, err
			}
			in, end = file, file.Close
		}
		_, err := cluster.Read(in)
		if err := errors.Join(err, end()); err != nil {
			return cluster, fmt.Errorf("%s: %w", name, err)
		}
	}
	return cluster, nil
}
