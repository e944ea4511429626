import { QueryClient, queryOptions, useQueries, useQuery } from '@tanstack/react-query';
import { ApiError, UNREACHABLE } from './ask';
import { client, isReading } from './client';
import { sheetsOf } from './reading';
import type { ResultFile } from './types';

export const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: Infinity,
      refetchOnWindowFocus: false,
      retry: (count, error) => error instanceof ApiError && error.status === UNREACHABLE && count < 1,
    },
  },
});

export const useSession = () =>
  useQuery({
    queryKey: ['session'],
    queryFn: client.session,
    // Asked again and again, so that a server that stopped is noticed, and so is one that came back.
    refetchInterval: (query) => (isReading ? false : query.state.status === 'error' || query.state.fetchFailureCount > 0 ? 3_000 : 15_000),
    staleTime: isReading ? Infinity : 0,
    retry: false,
  });

const architecture = (net: number) => queryOptions({ queryKey: ['architecture', net], queryFn: () => client.architecture(net) });

export const useArchitecture = (net: number) => useQuery(architecture(net));

export const useArchitectures = (nets: readonly number[]) =>
  useQueries({ queries: nets.map(architecture), combine: loaded });

export const useLabels = (nets: readonly number[]) =>
  useQueries({ queries: nets.map((net) => queryOptions({ queryKey: ['labels', net], queryFn: () => client.labels(net) })), combine: loaded });

function loaded<T>(results: readonly { data: T | undefined }[]): T[] {
  return results.map((result) => result.data).filter((data) => data !== undefined);
}

export const useFacts = (net: number, point: string) =>
  useQuery({ queryKey: ['facts', net, point], queryFn: () => client.facts(net, point) });

export const useMethods = () => useQuery({ queryKey: ['methods'], queryFn: client.methods });

export const useImages = () => useQuery({ queryKey: ['images'], queryFn: client.images });

export const useAnswers = (net: number, image: string | null) =>
  useQuery({ queryKey: ['answers', net, image], queryFn: () => client.answers(net, image ?? ''), enabled: image !== null });

export const useActivations = (net: number, image: string | null, point: string) =>
  useQuery({
    queryKey: ['activations', net, image, point],
    queryFn: () => client.activations(net, image ?? '', point),
    enabled: image !== null,
  });

/** What a look at the server's folder found; what is made from then on, its jobs tell. */
export const useKnown = (net: number, point: string) =>
  useQuery({ queryKey: ['known', net, point], queryFn: () => client.known(net, point) });

export const useTimes = (net: number, wanted: boolean) =>
  useQuery({ queryKey: ['times', net], queryFn: () => client.times(net), enabled: wanted });

export const useSensitivity = (net: number, result: string | undefined, point: string) =>
  useQuery({
    queryKey: ['sensitivity', net, result, point],
    queryFn: () => client.sensitivity(net, result ?? '', point),
    enabled: result !== undefined,
  });

export const useSteps = (file: ResultFile) => useQuery({ queryKey: ['steps', file.url], queryFn: () => client.steps(file) });

export const useAblation = (net: number, image: string | null, address: string) =>
  useQuery({
    queryKey: ['ablation', net, image, address],
    queryFn: () => client.ablation(net, image ?? '', address),
    enabled: image !== null,
  });

export const useUnit = (net: number, address: string) =>
  useQuery({ queryKey: ['unit', net, address], queryFn: () => client.unit(net, address) });

export const useResult = (id: string | undefined) =>
  useQuery({ queryKey: ['result', id], queryFn: () => client.result(id ?? ''), enabled: id !== undefined });

export const useSheets = (net: number, point: string, there: boolean) =>
  useQuery({ queryKey: ['sheets', net, point], queryFn: () => sheetsOf(net, point), enabled: there });
