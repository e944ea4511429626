import { ActionIcon, Menu, useMantineColorScheme, type MantineColorScheme } from '@mantine/core';
import { Icon, type IconName } from './icons';

const SCHEMES: [MantineColorScheme, string, IconName][] = [
  ['light', 'Light', 'sun'],
  ['dark', 'Dark', 'moon'],
  ['auto', 'As the system', 'system'],
];

export function SchemeMenu() {
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  const [, , icon] = SCHEMES.find(([name]) => name === colorScheme) ?? SCHEMES[2]!;
  return (
    <Menu position="bottom-end" width={170}>
      <Menu.Target>
        <ActionIcon size="lg" aria-label="Colors of the page">
          <Icon name={icon} />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        {SCHEMES.map(([name, label, each]) => (
          <Menu.Item key={name} leftSection={<Icon name={each} />} onClick={() => setColorScheme(name)} aria-current={name === colorScheme ? 'true' : undefined} fw={name === colorScheme ? 600 : 400}>
            {label}
          </Menu.Item>
        ))}
      </Menu.Dropdown>
    </Menu>
  );
}
